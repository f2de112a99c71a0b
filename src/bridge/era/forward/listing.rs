//! Lists for clients of the stateless era that can be asked something. A server of the earlier eras may leave out what its
//! client could not do its part in, so the one that lists was introduced to the same capabilities as the one that calls go to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::super::lease::{Lease, Leases};

/// How long a server that was started for lists is kept for more of them, and for the calls that follow.
const KEPT: Duration = Duration::from_secs(5);

/// Servers that lists were asked of a moment ago.
#[derive(Debug, Default)]
pub(super) struct Listings {
    /// Locked while one starts, so that lists that are asked for at once start one.
    all: Mutex<Vec<Listed>>,
}

/// A leased server. Lists share it: they ask their client nothing. What it asks on its own waits for a call.
#[derive(Debug)]
struct Listed {
    lease: Arc<Lease>,
    capabilities: Vec<u8>,
    /// It served calls before, which find it again afterwards.
    is_of_calls: bool,
    used: Instant,
}

impl Listed {
    /// Whether no list is under way.
    fn is_free(&self) -> bool {
        Arc::strong_count(&self.lease) == 1
    }
}

impl Listings {
    /// The server to list what a client of these capabilities can use, in use as long as it is held. `None` where it cannot
    /// be had: what everybody is shown is better than nothing.
    pub(super) async fn of(&self, leases: &Leases, capabilities: &[u8], make_room: impl Fn()) -> Option<Arc<Lease>> {
        let mut all = self.all.lock().await;
        all.retain(|listed| listed.lease.link.ended().is_none());
        if let Some(known) = all.iter_mut().find(|listed| listed.capabilities == capabilities) {
            known.used = Instant::now();
            return Some(Arc::clone(&known.lease));
        }
        let lease = match leases.take(capabilities.to_vec(), make_room).await {
            Ok(lease) => Arc::new(lease),
            Err(error) => {
                tracing::debug!(%error, "there is no server for the lists of a client");
                return None;
            }
        };
        let (is_of_calls, used) = (lease.link.has_worked(), Instant::now());
        all.push(Listed { lease: Arc::clone(&lease), capabilities: capabilities.to_vec(), is_of_calls, used });
        Some(lease)
    }

    /// The server of these capabilities for a call, if no list is under way there.
    pub(super) fn take(&self, capabilities: &[u8]) -> Option<Lease> {
        let mut all = self.all.try_lock().ok()?;
        let index = all.iter().position(|listed| listed.capabilities == capabilities && listed.is_free())?;
        let lease = Arc::into_inner(all.swap_remove(index).lease);
        lease.filter(|lease| lease.link.ended().is_none())
    }

    /// Ends all that nobody uses.
    pub(super) fn let_go(&self) {
        if let Ok(mut all) = self.all.try_lock() {
            all.retain(|listed| !listed.is_free());
        }
    }

    /// Ends those that were kept long enough; those of calls go back.
    pub(super) fn sweep(&self, leases: &Leases) {
        let Ok(mut all) = self.all.try_lock() else { return };
        for listed in all.extract_if(.., |listed| listed.is_free() && listed.used.elapsed() >= KEPT) {
            if let (true, Some(lease)) = (listed.is_of_calls, Arc::into_inner(listed.lease)) {
                leases.give_back(lease);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use serde_json::{Value, json};

    use super::super::super::super::common::Common;
    use super::super::super::super::owner::Ids;
    use super::super::super::super::scan::scan;
    use super::super::super::super::stateless::Stateless;
    use super::super::super::super::{Arguments, Context};
    use clap::Parser as _;

    /// Its tools are the capabilities of its client; whoever lists or calls is told its process.
    const SERVER: &str = r"
import sys, json, os
can = []
for line in sys.stdin:
    m = json.loads(line)
    i, method, result = m.get('id'), m.get('method'), {'pid': os.getpid()}
    if method == 'initialize':
        can = sorted(m['params']['capabilities'])
        result = {'protocolVersion': '2025-11-25', 'capabilities': {'tools': {}}, 'serverInfo': {'name': 's', 'version': '1'}}
    elif method == 'notifications/initialized' and 'roots' in can:
        print(json.dumps({'jsonrpc': '2.0', 'id': 'r', 'method': 'roots/list'}), flush=True)
    if method == 'tools/list': result['tools'] = [{'name': name} for name in can]
    if method == 'server/discover': print(json.dumps({'jsonrpc': '2.0', 'id': i, 'error': {'code': -32601, 'message': 'no'}}), flush=True)
    elif method and i is not None: print(json.dumps({'jsonrpc': '2.0', 'id': i, 'result': result}), flush=True)
";

    async fn ask(stateless: &Stateless, method: &str, capabilities: &Value) -> Value {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": capabilities
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "t", "_meta": meta}});
        let text = bytes::Bytes::from(body.to_string());
        let message = scan(&text).unwrap();
        let answering = stateless.request(text, &message, &HeaderMap::new(), true).await.unwrap();
        let (answer, is_last) = answering.stream.next().await.unwrap();
        assert!(is_last);
        serde_json::from_slice::<Value>(&answer).unwrap()["result"].take()
    }

    #[tokio::test]
    async fn a_client_that_can_be_asked_is_listed_what_it_can_use_by_the_server_that_it_calls() {
        let words = ["mcp-bridge", "--spare", "0", "--", "python3", "-u", "-c", SERVER];
        // A whole bridge would end what is not used for a while.
        let context = Context::new(Arguments::parse_from(words).resolve().unwrap(), false);
        let ids = Ids::new(&context.options.session_key, &context.options.owner);
        let bridge = Stateless::new(&context, &Common::new(&context), &ids);
        let everybody = ask(&bridge, "tools/list", &json!({})).await;
        assert_eq!((&everybody["tools"], &everybody["resultType"]), (&json!([]), &json!("complete")), "{everybody}");
        let can = json!({"elicitation": {}, "roots": {}});
        // What it asks on its own is no list's business.
        let lists = ["tools/list", "prompts/list", "resources/list", "resources/templates/list"];
        let listed = futures_util::future::join_all(lists.map(|method| ask(&bridge, method, &can))).await;
        assert_eq!(listed[0]["tools"], json!([{"name": "elicitation"}, {"name": "roots"}]));
        assert!(listed.iter().all(|list| list["pid"] == listed[0]["pid"] && list["resultType"] == "complete"), "{listed:?}");
        assert_ne!(listed[0]["pid"], everybody["pid"]);
        let other = ask(&bridge, "tools/list", &json!({"sampling": {}})).await;
        assert_eq!(other["tools"], json!([{"name": "sampling"}]));
        let called = ask(&bridge, "tools/call", &json!({"sampling": {}})).await;
        assert_eq!((&called["pid"], &called["resultType"]), (&other["pid"], &json!("complete")), "{called}");
        let again = ask(&bridge, "tools/list", &json!({})).await;
        assert_eq!((&again["tools"], &again["pid"]), (&json!([]), &everybody["pid"]));
        bridge.close_all();
        context.links.alive().iter().for_each(|link| link.stop("the test is over"));
    }
}
