//! Watches of labelled objects: each tells everything there is, and then every change. One that is cut off is begun anew
//! after a growing pause, whatever the reason was, and tells everything again; all are, at once, when the API server is back.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, StreamExt as _};
use kube::core::{ApiResource, DynamicResourceScope, ObjectMeta};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::extension;
use super::kinds::{self, Owned};
use super::names;
use super::observed::{Pod, PodObject, RouteObject, Workload, WorkloadObject, Written, unfollowed};
use super::root::{Root, Seen};
use super::shared::{Returns, Shared};
use super::world::{Item, News, Source};
use crate::domain::name::ServiceName;

/// Pauses before a watch is begun anew: at first, at most, and at most while the API server is just back, whose caches of
/// some kinds come back later than it does. The view is to be right soon then.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE_AT_FIRST: Duration = Duration::from_millis(500);
/// A watch that has stood for so long was well: the next pause is the first one again.
const STOOD: Duration = Duration::from_secs(5);
/// A watch that sends nothing for so long is begun anew.
const SILENCE: u32 = 290;

/// What a watch tells.
pub(super) type Events<K> = BoxStream<'static, Result<Event<K>, watcher::Error>>;

/// Follows everything until it is dropped.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut news = futures_util::stream::select_all(Source::all().map(|source| stream(&shared, source)));
    while let Some((source, news)) = news.next().await {
        shared.hear(source, news);
    }
}

fn stream(shared: &Arc<Shared>, source: Source) -> BoxStream<'static, (Source, News)> {
    match source {
        Source::Roots => told(shared, source, &kinds::root(), |object: Seen| Root::read(&object.metadata).map(Item::Root)),
        Source::Pods => told(shared, source, &kinds::pods(), |object: PodObject| Some(Item::Pod(Box::new(Pod::read(object))))),
        Source::Owned(kind) if kind.is_workload() => {
            told(shared, source, &kind.resource(), move |object| Some(workload(kind, object)))
        }
        Source::Owned(kind) if kind.is_extension() => {
            let asked = shared.clone();
            let begin = move || {
                let watched = asked.clone();
                extension::events(asked.clone(), kind, move || watching(&watched, &kind.resource()))
            };
            following(shared, source, begin, |object: RouteObject| {
                Some(Item::Route(unfollowed(&object).map(Box::new), Written::read(&object.metadata)))
            })
        }
        Source::Owned(kind) => {
            told(shared, source, &kind.resource(), |object: Seen| Some(Item::Other(Written::read(&object.metadata))))
        }
    }
}

fn workload(kind: Owned, object: WorkloadObject) -> Item {
    let written = Written::read(&object.metadata);
    Item::Workload(Box::new(Workload::read(kind, object)), written)
}

/// News of one kind of objects; each is cut down by `read` before it goes on.
fn told<K>(
    shared: &Arc<Shared>,
    source: Source,
    resource: &ApiResource,
    read: impl Fn(K) -> Option<Item> + Clone + Send + 'static,
) -> BoxStream<'static, (Source, News)>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let (asked, resource) = (shared.clone(), resource.clone());
    following(shared, source, move || watching(&asked, &resource), read)
}

/// A watch of one kind of objects.
fn watching<K>(shared: &Shared, resource: &ApiResource) -> Events<K>
where
    K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().labels(&shared.names.selector()).timeout(SILENCE);
    let api = Api::namespaced_with(shared.client_to_watch(), &shared.names.namespace, resource);
    watcher::watcher(api, config).boxed()
}

/// News from the watches that `begin` begins, one after the other.
fn following<K: Resource + Send + 'static>(
    shared: &Arc<Shared>,
    source: Source,
    begin: impl Fn() -> Events<K> + Send + 'static,
    read: impl Fn(K) -> Option<Item> + Clone + Send + 'static,
) -> BoxStream<'static, (Source, News)> {
    let state = Following {
        shared: shared.clone(),
        watch: begin(),
        began: Instant::now(),
        pause: FIRST_PAUSE,
        cut: false,
        returns: shared.returns(),
    };
    let news = futures_util::stream::unfold((state, begin), move |(mut state, begin)| {
        let read = read.clone();
        async move {
            if state.cut {
                tokio::select! {
                    () = tokio::time::sleep(state.pause) => state.pause = state.next_pause(),
                    () = returned(&mut state.returns) => state.pause = FIRST_PAUSE,
                }
                (state.watch, state.began, state.cut) = (begin(), Instant::now(), false);
            }
            let event = tokio::select! {
                event = state.watch.next() => event,
                () = returned(&mut state.returns) => {
                    (state.watch, state.began, state.pause) = (begin(), Instant::now(), FIRST_PAUSE);
                    return Some((Some(News::Cut), (state, begin)));
                }
            };
            let news = if let Some(Ok(event)) = event {
                heard(event, source, &read)
            } else {
                if let Some(Err(error)) = event {
                    tracing::debug!(?source, %error, "a watch was cut off");
                }
                if state.began.elapsed() > STOOD {
                    state.pause = FIRST_PAUSE;
                }
                state.cut = true;
                Some(News::Cut)
            };
            Some((news, (state, begin)))
        }
    });
    news.filter_map(move |news| std::future::ready(news.map(|news| (source, news)))).boxed()
}

/// Where the following of one kind stands.
struct Following<W> {
    shared: Arc<Shared>,
    watch: W,
    began: Instant,
    /// Before the watch is begun anew.
    pause: Duration,
    cut: bool,
    returns: Returns,
}

impl<W> Following<W> {
    fn next_pause(&self) -> Duration {
        let longest = if self.shared.is_just_back() { LONGEST_PAUSE_AT_FIRST } else { LONGEST_PAUSE };
        (self.pause * 2).min(longest)
    }
}

/// Waits until the API server is back; for ever when nobody can tell any more.
pub(super) async fn returned(returns: &mut Returns) {
    if returns.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn heard<K: Resource>(event: Event<K>, source: Source, read: impl Fn(K) -> Option<Item>) -> Option<News> {
    match event {
        Event::Init => Some(News::Begin),
        Event::InitDone => Some(News::Complete),
        Event::Apply(object) | Event::InitApply(object) => {
            let (service, name) = whose(object.meta(), source)?;
            Some(News::Is { service, name, item: Box::new(read(object)?) })
        }
        Event::Delete(object) => {
            let (service, name) = whose(object.meta(), source)?;
            Some(News::Gone { service, name })
        }
    }
}

/// The service that an object belongs to, and its name; a root object is the service.
fn whose(metadata: &ObjectMeta, source: Source) -> Option<(ServiceName, String)> {
    let service = metadata.labels.as_ref()?.get(names::SERVICE)?.parse().ok()?;
    let name = if source == Source::Roots { String::new() } else { metadata.name.clone()? };
    Some((service, name))
}
