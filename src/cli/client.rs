//! The client of the REST API: requests, answers, and errors that say what to do. It knows no command.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Common;
use super::exit::{Outcome, Trouble};
use crate::domain::name::ServiceName;
use crate::error::{Error, Kind};
use crate::http_client::{self, Trust};
use crate::problem::Problem;

/// Parameters after the `?`.
pub type Query = Vec<(&'static str, String)>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// These names mean this machine whatever its resolver thinks (RFC 6761).
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// A client of one manager.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    ca_file: Option<PathBuf>,
    key: Option<String>,
}

impl Client {
    /// A client of the manager that the options name.
    pub fn new(common: &Common) -> Outcome<Self> {
        let wrong = |message: &str| {
            let message = format!("'{}' {message}", common.server().escape_debug());
            Trouble::from(Error::invalid_field("--server", message, "write e.g. http://127.0.0.1:8000"))
        };
        let base = Url::parse(common.server()).map_err(|_| wrong("is not an address"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("is not an address of HTTP"));
        }
        let host = base.host_str().ok_or_else(|| wrong("names no host"))?.to_owned();
        let ca_file = common.ca_file.clone();
        let mut builder = http_client::builder(trust(&base, ca_file.as_deref()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("mcp-manager/", env!("CARGO_PKG_VERSION")));
        if is_local(&host) {
            builder = builder.resolve_to_addrs(&host, &LOOPBACK.map(|address| SocketAddr::new(address, 0)));
        }
        let http = builder.build().map_err(|error| Error::internal("the HTTP client cannot be made", error))?;
        Ok(Self { http, base, ca_file, key: key(common)? })
    }

    /// Asks for a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &Query) -> Outcome<T> {
        self.read(self.send(Method::GET, path, query, None::<&()>).await?).await
    }

    /// Asks for a change and reads what came of it.
    pub async fn change<T, B>(&self, method: Method, path: &str, query: &Query, body: Option<&B>) -> Outcome<T>
    where
        T: DeserializeOwned,
        B: Serialize + Sync,
    {
        self.read(self.send(method, path, query, body).await?).await
    }

    /// Deletes something; the answer has no content.
    pub async fn delete(&self, path: &str, query: &Query) -> Outcome {
        let response = self.send(Method::DELETE, path, query, None::<&()>).await?;
        // Anything says 200: a proxy's page for logging in, too.
        if response.status() == StatusCode::NO_CONTENT { Ok(()) } else { Err(self.stranger(None)) }
    }

    /// Sends a request; an answer that is an error becomes one.
    pub async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Option<&B>,
    ) -> Outcome<Response> {
        let request = self.request(method, path).query(query);
        self.answer(if let Some(body) = body { request.json(body) } else { request }).await
    }

    /// Posts a body and asks for the answer as events.
    pub async fn send_for_events<B: Serialize + Sync>(&self, path: &str, body: &B) -> Outcome<Response> {
        self.answer(self.request(Method::POST, path).header("accept", "text/event-stream").json(body)).await
    }

    /// A client for a service of the manager's. Names that only mean something on the manager's machine mean that machine.
    pub async fn of_service(&self, url: &str) -> Outcome<reqwest::Client> {
        let wrong = || {
            Trouble::from(Error::invalid_field("SERVICE", "is not an address of HTTP", "write e.g. http://127.0.0.1:9000/mcp"))
        };
        let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(wrong)?;
        let mut builder = http_client::builder(trust(&url, self.ca_file.as_deref()))?.connect_timeout(CONNECT_TIMEOUT);
        if let Some(host) = url.host_str().filter(|host| is_local(host)) {
            let manager = self.base.host_str().unwrap_or_default().trim_matches(['[', ']']);
            let addresses = if is_local(manager) {
                LOOPBACK.map(|address| SocketAddr::new(address, 0)).to_vec()
            } else {
                let found = tokio::net::lookup_host((manager, 0)).await;
                found
                    .map_err(|error| Error::new(Kind::BackendUnavailable, format!("'{manager}' is not known: {error}")))?
                    .collect()
            };
            builder = builder.resolve_to_addrs(host, &addresses);
        }
        Ok(builder.build().map_err(|error| Error::internal("the HTTP client cannot be made", error))?)
    }

    async fn answer(&self, request: RequestBuilder) -> Outcome<Response> {
        let response = request.send().await.map_err(|error| self.no_answer(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.problem(response).await) }
    }

    /// A request with the key, for what is no document.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        // A base with a path is how the manager is reached behind a proxy: http://host/api/mcp.
        let path = format!("{}{path}", self.base.path().trim_end_matches('/'));
        url.set_path(&path);
        let request = self.http.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Outcome<T> {
        let bytes = response.bytes().await.map_err(|error| self.no_answer(error))?;
        serde_json::from_slice(&bytes).map_err(|error| self.stranger(Some(error)))
    }

    /// What answers is no manager, or one that this version does not know.
    pub fn stranger(&self, cause: Option<serde_json::Error>) -> Trouble {
        let detail = format!("what answers at {} does not speak like this version of mcp-manager", self.base);
        let error = match cause {
            Some(cause) => Error::internal(detail, cause),
            None => Error::new(Kind::Internal, detail),
        };
        Trouble::unreachable(error.remedy("check --server, and that manager and command line are of the same version"))
    }

    /// The error that an answer holds.
    async fn problem(&self, response: Response) -> Trouble {
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
            let detail = format!("what answers at {} is not mcp-manager: it says {status}", self.base);
            return Trouble::unreachable(
                Error::new(Kind::BackendUnavailable, detail).remedy("check --server and MCP_MANAGER_SERVER"),
            );
        };
        let mut error = error_of(problem);
        if status == 401 && self.key.is_none() {
            error.kind = Kind::Unauthenticated;
            error.remedy = Some("give a key with MCP_MANAGER_API_KEY or --api-key; 'mcp-manager auth key' makes one".to_owned());
        }
        error.into()
    }

    /// The manager did not answer, or broke off.
    pub fn no_answer(&self, error: reqwest::Error) -> Trouble {
        let server = self.base.as_str().trim_end_matches('/');
        let (detail, remedy) = if let Some(why) = http_client::distrust(&error) {
            let remedy = "name the file of its authority's certificate with --ca-file, and check that --server is the address \
                          that its certificate is for";
            (format!("what answers at {server} is not believed to be it: {why}"), remedy)
        } else if error.is_connect() {
            (format!("no manager answers at {server}"), "start it with 'mcp-manager serve', or name another one with --server")
        } else {
            (format!("the manager at {server} broke off"), "see whether it still runs; what was asked for may have been done")
        };
        // The URL is in the detail already.
        Trouble::unreachable(Error::new(Kind::BackendUnavailable, detail).remedy(remedy).because(error.without_url()))
    }
}

/// Whose word counts for who answers at `url`.
fn trust<'p>(url: &Url, ca_file: Option<&'p Path>) -> Trust<'p> {
    match (url.scheme(), ca_file) {
        ("https", Some(file)) => Trust::File(file),
        ("https", None) => Trust::System,
        _ => Trust::Nobody,
    }
}

/// The key that is given, if one is: that of the file, else that of the option or the variable.
pub fn key(common: &Common) -> Outcome<Option<String>> {
    let Some(file) = &common.api_key_file else {
        return common.api_key.as_deref().map(|key| usable_key("--api-key", key)).transpose();
    };
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Error::invalid_field("--api-key-file", message, "name a file that holds the key alone")
    })?;
    usable_key("--api-key-file", &text).map(Some)
}

/// The key without the line end that files give it. What cannot stand in a header is not repeated, for it is secret.
fn usable_key(option: &str, key: &str) -> Outcome<String> {
    let key = key.trim();
    let remedy = "give the key alone, as 'mcp-manager auth key' showed it";
    let message = if key.contains("MCP_MANAGER_API_KEY") {
        // A client that fills in no references, or had none to fill in.
        "is a reference to a variable that nobody filled in"
    } else if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        "is empty or holds characters that no key has"
    } else {
        return Ok(key.to_owned());
    };
    Err(Error::invalid_field(option, message, remedy).into())
}

/// The error that a problem document tells of.
pub fn error_of(problem: Problem) -> Error {
    let slug = problem.r#type.rsplit(':').next().unwrap_or_default();
    // A kind that only a newer manager knows is still an error.
    let kind = Kind::ALL.into_iter().find(|kind| kind.slug() == slug).unwrap_or(Kind::Internal);
    Error { remedy: problem.remedy, fields: problem.errors, ..Error::new(kind, problem.detail) }
}

/// The address of a service, with the name checked before it becomes part of a path.
pub fn service_path(name: &str, rest: &str) -> Outcome<String> {
    let name: ServiceName = name.parse()?;
    Ok(format!("/containers/{name}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::OutputFormat;

    fn common(server: &str) -> Common {
        Common {
            server: Some(server.to_owned()),
            context: None,
            ca_file: None,
            api_key: None,
            api_key_file: None,
            output: OutputFormat::Auto,
            json: false,
            quiet: false,
        }
    }

    #[test]
    fn only_addresses_that_can_work_are_taken() {
        assert!(Client::new(&common("http://127.0.0.1:8000")).is_ok());
        for bad in ["", "127.0.0.1:8000", "ftp://x", "http://"] {
            assert!(Client::new(&common(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_taken_without_its_line_end_and_never_repeated() {
        let with = |key: &str| Client::new(&Common { api_key: Some(key.to_owned()), ..common("http://127.0.0.1:8000") });
        assert_eq!(with("mcpm_1\n").unwrap().key.as_deref(), Some("mcpm_1"));
        let Err(Trouble::Error(code, error)) = with("hunter2 x") else { panic!("taken") };
        assert_eq!(code, super::super::exit::Code::Usage);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn the_key_of_a_file_counts_before_others_and_a_reference_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "mcpm_file\n").unwrap();
        let with = |key: &str, file: Option<&std::path::Path>| {
            let (api_key, api_key_file) = (Some(key.to_owned()), file.map(std::path::Path::to_owned));
            super::key(&Common { api_key, api_key_file, ..common("http://127.0.0.1:8000") })
        };
        assert_eq!(with("mcpm_1", Some(&file)).unwrap().as_deref(), Some("mcpm_file"));
        assert_eq!(with("mcpm_1", None).unwrap().as_deref(), Some("mcpm_1"));
        assert!(with("mcpm_1", Some(directory.path())).is_err(), "a file that cannot be read is not passed over");
        let Err(Trouble::Error(_, error)) = with("${env:MCP_MANAGER_API_KEY}", None) else { panic!("taken") };
        assert!(error.to_string().contains("nobody filled in"), "{error}");
    }

    #[test]
    fn a_name_cannot_lead_out_of_its_path() {
        assert_eq!(service_path("echo", "/stop").unwrap(), "/containers/echo/stop");
        assert!(service_path("../templates", "").is_err());
    }
}
