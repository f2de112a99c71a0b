//! What the machine offers to tests beyond cargo, as `scripts/test.sh` found it and says by environment variables.
//! A test that needs a part asks here, and leaves itself out aloud where the machine lacks it. Leaves out finding
//! and installing the parts: that is the script's.

use std::io::Write as _;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// Rootless Podman works for the user who runs this process. Value: `1`.
    Podman,
    /// The real Traefik. Value: path of the program.
    Traefik,
    /// A Kubernetes cluster that the tests may fill. Value: the file that leads to it, as kubectl reads it. Its nodes have the
    /// image that `MCP_TEST_KUBE_IMAGE` names, which is the echo server's, and the images of k8s/: `localhost/mcp/manager`,
    /// `localhost/mcp/echo`, `docker.io/library/nginx` and `docker.io/library/traefik:v3.7`. `MCP_TEST_KUBECTL` is the
    /// path of kubectl, `MCP_TEST_HELM` that of helm.
    Kubernetes,
    /// What defines the kinds of routes that clusters have only where somebody has installed them: Traefik's and those of
    /// the Gateway API. Value: a folder of files for `kubectl apply`.
    RouteDefinitions,
    /// A registry that serves Docker Hub's names, which Podman here is set to use. Value: `HOST:PORT`.
    Hub,
    /// The API fuzzer. Value: path of the program.
    Schemathesis,
    /// MCP's conformance suite. Value: path of the program.
    Conformance,
    /// Clients of MCP, and Python's httpx. Value: a folder with the program `node`, its `node_modules`, and the Python
    /// environment `python`.
    Clients,
}

impl Part {
    fn variable(self) -> &'static str {
        match self {
            Self::Podman => "MCP_TEST_PODMAN",
            Self::Traefik => "MCP_TEST_TRAEFIK",
            Self::Kubernetes => "MCP_TEST_KUBECONFIG",
            Self::RouteDefinitions => "MCP_TEST_ROUTE_CRDS",
            Self::Hub => "MCP_TEST_HUB",
            Self::Schemathesis => "MCP_TEST_SCHEMATHESIS",
            Self::Conformance => "MCP_TEST_CONFORMANCE",
            Self::Clients => "MCP_TEST_CLIENTS",
        }
    }
}

/// The part's value, or nothing after reporting that the calling test is left out; where leaving out is not allowed
/// (`MCP_TEST_REQUIRE_ALL=1`), the test fails instead.
///
/// `let Some(traefik) = machine::offered(Part::Traefik) else { return };`
#[must_use]
pub fn offered(part: Part) -> Option<String> {
    if let Some(value) = setting(part.variable()) {
        return Some(value);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let report = format!("{test}: this machine offers no {part:?} ({} is not set)", part.variable());
    assert!(setting("MCP_TEST_REQUIRE_ALL").as_deref() != Some("1"), "{report}, and nothing may be left out");
    eprintln!("LEFT OUT {report}");
    // The output of a passing test is not shown; the script reads this file and says it at the end.
    if let Some(path) = setting("MCP_TEST_LEFT_OUT") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{report}").unwrap();
    }
    None
}

/// Further facts of the cluster for tests: the value of a variable that must be set beside [`Part::Kubernetes`].
#[must_use]
pub fn beside_kubernetes(variable: &str) -> String {
    setting(variable).unwrap_or_else(|| panic!("{variable} is not set beside MCP_TEST_KUBECONFIG"))
}

#[expect(clippy::disallowed_methods, reason = "the script speaks to the tests through the environment alone")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
