//! `MAX_CONTAINERS`, also under concurrency and over several managers: places are counted where records are kept, and
//! reserved before anything is created.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::name::ServiceName;
use crate::error::{Error, Kind, Result};

/// Places for containers.
#[derive(Debug)]
pub struct Capacity {
    limit: u32,
    /// Places promised to changes whose record is not in the view yet.
    promised: Arc<Mutex<BTreeMap<ServiceName, u32>>>,
}

/// A promise of places; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    name: ServiceName,
    promised: Arc<Mutex<BTreeMap<ServiceName, u32>>>,
}

impl Capacity {
    pub fn new(limit: u32) -> Self {
        Self { limit, promised: Arc::default() }
    }

    /// Promises `replicas` places to `name`, where `recorded` says what every service has: it is asked while no promise is
    /// made or given back, so that a service is in one of the two. Keep the reservation until the change is recorded.
    pub fn reserve(
        &self,
        recorded: impl FnOnce() -> BTreeMap<ServiceName, u32>,
        name: &ServiceName,
        replicas: u32,
    ) -> Result<Reservation> {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        self.fits(&promised, &recorded(), name, replicas)?;
        promised.insert(name.clone(), replicas);
        Ok(Reservation { name: name.clone(), promised: self.promised.clone() })
    }

    /// Whether [`Capacity::reserve`] would promise that now. It promises nothing, and so is in nobody's way.
    pub fn has_room(&self, recorded: &BTreeMap<ServiceName, u32>, name: &ServiceName, replicas: u32) -> Result<()> {
        self.fits(&self.promised.lock().unwrap_or_else(PoisonError::into_inner), recorded, name, replicas)
    }

    fn fits(
        &self,
        promised: &BTreeMap<ServiceName, u32>,
        recorded: &BTreeMap<ServiceName, u32>,
        name: &ServiceName,
        replicas: u32,
    ) -> Result<()> {
        if promised.contains_key(name) {
            return Err(Error::new(Kind::AlreadyExists, format!("'{name}' is being created or changed by another request"))
                .remedy("wait for that request, then look at the service"));
        }
        // A service under change counts with the greater of what it has and what it was promised.
        let existing = |name: &ServiceName| recorded.get(name).copied().unwrap_or_default();
        let others: u32 = recorded.keys().filter(|other| *other != name).map(existing).sum();
        let pending: u32 = promised.iter().map(|(other, count)| count.saturating_sub(existing(other))).sum();
        let used = others.saturating_add(pending);
        if used.saturating_add(replicas) > self.limit {
            let detail = format!("'{name}' with {replicas} containers does not fit: others have {used} of {} places", self.limit);
            return Err(Error::new(Kind::LimitReached, detail).remedy("delete services, or raise MAX_CONTAINERS"));
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_count_until_they_are_given_back() {
        let (capacity, view) = (Capacity::new(3), BTreeMap::<ServiceName, u32>::new);
        let name = |text: &str| text.parse::<ServiceName>().unwrap();
        let first = capacity.reserve(view, &name("a"), 2).unwrap();
        assert_eq!(capacity.reserve(view, &name("b"), 2).unwrap_err().kind, Kind::LimitReached);
        assert_eq!(capacity.reserve(view, &name("a"), 1).unwrap_err().kind, Kind::AlreadyExists);
        assert!(capacity.has_room(&view(), &name("b"), 1).is_ok(), "which promises nothing:");
        assert!(capacity.reserve(view, &name("b"), 1).is_ok());
        drop(first);
        assert!(capacity.reserve(view, &name("b"), 3).is_ok());
    }

    #[test]
    fn what_is_recorded_while_others_ask_is_counted_whenever_they_began() {
        let capacity = Capacity::new(7);
        let recorded = Mutex::new(BTreeMap::new());
        let admitted = std::thread::scope(|scope| {
            let create = |number: u32| {
                let name: ServiceName = format!("echo-{number}").parse().unwrap();
                let count = || recorded.lock().unwrap().clone();
                let Ok(reservation) = capacity.reserve(count, &name, 2) else { return 0 };
                recorded.lock().unwrap().insert(name, 2);
                drop(reservation);
                1
            };
            let threads: Vec<_> = (0..64).map(|number| scope.spawn(move || create(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert_eq!(admitted, 3);
    }
}
