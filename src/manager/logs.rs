//! Logs of services, replicas merged and told apart.

use std::sync::Arc;

use super::Manager;
use crate::backend::LogStream;
use crate::domain::access::{Actor, Operation};
use crate::domain::name::ServiceName;
use crate::domain::status::LogQuery;
use crate::error::{Error, Result};

impl Manager {
    /// The log lines that `query` asks for.
    pub async fn service_logs(self: &Arc<Self>, actor: &Actor, name: &ServiceName, query: LogQuery) -> Result<LogStream> {
        if let (Some(since), Some(until)) = (query.since, query.until)
            && since >= until
        {
            return Err(Error::invalid_field("until", "is not after 'since'", "swap them, or leave one out"));
        }
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move {
            let service = manager.service(&owned)?;
            if let Some(replica) = query.replica
                && !service.replicas.iter().any(|is| is.ordinal == replica)
            {
                let numbers: Vec<String> = service.replicas.iter().map(|is| is.ordinal.to_string()).collect();
                let remedy = format!("use one of: {}", numbers.join(", "));
                return Err(Error::invalid_field("replica", format!("'{owned}' has no replica {replica}"), remedy));
            }
            manager.backend.logs(&owned, query).await
        };
        self.perform(actor, Operation::ServiceLogs, name.as_str(), work).await
    }
}
