//! The rules of single fields: images, commands, numbers, ports, names, capabilities. Files and variables have their own.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Deserializer;

use super::spelling::FOR_A_SHELL;
use super::{PortNumber, REDACTED, ServiceSpec, Words};
use crate::domain::fields::{MAX_ERRORS, whole};
use crate::domain::quantity::{Bytes, MilliCpu, Span};
use crate::domain::shown;
use crate::error::FieldError;

/// Limits of memory: from what the engines accept to what no machine has.
pub const MEMORY: RangeInclusive<Bytes> = Bytes(6 << 20)..=Bytes(64 << 40);
/// Limits of the writable layer, likewise.
pub const STORAGE: RangeInclusive<Bytes> = Bytes(1 << 20)..=Bytes(1 << 50);
pub(super) const TMPFS: RangeInclusive<Bytes> = Bytes(4 << 10)..=Bytes(64 << 40);
/// Limits of CPU time, likewise.
pub const CPU: RangeInclusive<MilliCpu> = MilliCpu(10)..=MilliCpu(4_096_000);
/// Limits of processes, likewise.
pub const PIDS: RangeInclusive<u32> = 1..=4_194_304;
/// Numbers of replicas.
pub const REPLICAS: RangeInclusive<u32> = 1..=100;
/// Ports.
pub(super) const PORTS: RangeInclusive<u16> = 1..=u16::MAX;
/// Sessions of a bridge: where they share a process, each of them takes little.
pub(super) const MAX_SESSIONS: RangeInclusive<u32> = 1..=10_000;
/// Idle times of a session, of which the bridge counts whole seconds.
pub(super) const SESSION_IDLE: RangeInclusive<Span> = Span(1_000)..=Span(86_400_000);
pub(super) const RETRIES: RangeInclusive<u32> = 1..=100;
pub(super) const CPU_PERCENT: RangeInclusive<u32> = 1..=100;
pub(super) const INTERVAL: RangeInclusive<Span> = Span(100)..=HOUR;
pub(super) const PROBE_TIMEOUT: RangeInclusive<Span> = Span(10)..=HOUR;
pub(super) const START: RangeInclusive<Span> = Span(100)..=HOUR;
pub(super) const UP_TO_AN_HOUR: RangeInclusive<Span> = Span(0)..=HOUR;
/// Who sends back what was shown would lose the secret.
pub(super) const WITHHELD: &str = "holds what is shown in the place of a secret";
pub(super) const WITHHELD_REMEDY: &str = "give the value itself; PATCH changes a service without naming it";

const HOUR: Span = Span(3_600_000);

/// Readers of the numbers among these.
macro_rules! readers {
    ($($reader:ident: $bounds:expr, $what:literal;)*) => { $(
        #[doc = concat!("Reads ", $what, ".")]
        pub fn $reader<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
            whole(deserializer, $bounds)
        }
    )* };
}
readers! {
    replicas: REPLICAS, "a number of replicas";
    pids: PIDS, "a limit of processes";
    retries: RETRIES, "a number of failures";
    cpu_percent: CPU_PERCENT, "a load";
    max_sessions: MAX_SESSIONS, "a number of sessions";
}

/// Reads a port.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    whole(deserializer, PORTS)
}

/// Most entries of a map or list.
pub(in crate::domain) const MAX_ENTRIES: usize = 1000;

/// Longest single text in bytes.
pub(super) const MAX_TEXT: usize = 32 << 10;

/// Longest references to images, paths that are asked for health, users, names of volumes and the like, and names of
/// variables, in bytes.
pub(super) const MAX_IMAGE: usize = 512;
pub(super) const MAX_URL_PATH: usize = 2048;
pub(super) const MAX_USER: usize = 128;
pub(super) const MAX_NAME: usize = 63;
pub(super) const MAX_VARIABLE: usize = 256;

/// Largest spec in bytes of JSON: it is kept in labels, and every look at the service carries it.
const MAX_SPEC: usize = 256 << 10;

pub(super) const NAME_REMEDY: &str =
    "use letters, digits, '.', '_' and '-', starting with a letter or digit, 63 characters at most";

/// Network names that engines take for something else than a network.
pub(super) const NETWORK_MODES: [&str; 9] =
    ["bridge", "container", "default", "host", "none", "ns", "pasta", "private", "slirp4netns"];

/// Capabilities that act inside the container's own namespaces only; `SYS_ADMIN`, `NET_ADMIN` and the like are not to be had.
pub(super) const ALLOWED_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Collects what is wrong with a spec; a bounded number of things.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) errors: Vec<FieldError>,
}

impl Check {
    /// Notes an error unless `holds`.
    pub(super) fn that(&mut self, holds: bool, field: &str, message: &str, remedy: &str) -> bool {
        if !holds {
            self.wrong(field, message, remedy);
        }
        holds
    }

    /// Notes an error. One more than are listed is kept, to tell that there are more.
    pub(super) fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        if self.errors.len() <= MAX_ERRORS {
            self.errors.push(FieldError::new(field, message, remedy));
        }
    }

    /// `value`, which should be in `range`.
    pub(super) fn within<T: PartialOrd + Display>(&mut self, field: &str, value: T, range: RangeInclusive<T>) -> T {
        if !range.contains(&value) {
            self.wrong(field, format!("is {value}"), format!("use {} to {}", range.start(), range.end()));
        }
        value
    }

    /// Whether there are no more than `MAX_ENTRIES`; what is above is not looked at.
    pub(super) fn count(&mut self, field: &str, count: usize) -> bool {
        self.that(count <= MAX_ENTRIES, field, "has more than 1000 entries", "use fewer")
    }

    /// The whole must fit into labels.
    pub(super) fn size(&mut self, spec: &ServiceSpec) {
        // A struct of plain values always serialises.
        let size = serde_json::to_vec(spec).map_or(0, |text| text.len());
        self.that(size <= MAX_SPEC, "", "is larger than 256 KiB in all", "pass large values as files in a volume");
    }

    pub(super) fn image(&mut self, image: Option<String>) -> String {
        let Some(image) = image else {
            self.wrong("image", "is missing", "name an image, e.g. docker.io/library/nginx:latest");
            return String::new();
        };
        let remedy = "name an image, e.g. docker.io/library/nginx:latest, in lower case but for its host and its tag";
        self.that(is_image(&image), "image", "is not an image reference", remedy);
        image
    }

    pub(super) fn words(&mut self, field: &str, words: Option<Words>) -> Option<Vec<String>> {
        let Words(words) = words?;
        let right = words.len() <= MAX_ENTRIES && words.iter().all(|word| word.len() <= MAX_TEXT && !word.contains('\0'));
        self.that(right, field, "has too many or too long words, or a NUL character", "use at most 1000 words of 32 KiB");
        self.that(!words.iter().any(|word| word.contains(REDACTED)), field, WITHHELD, WITHHELD_REMEDY);
        Some(words)
    }

    /// The words of a health check's command, in the plain form.
    pub(super) fn health_command(&mut self, command: Option<Words>) -> Option<Vec<String>> {
        let words = self.words("health_check.command", command)?;
        let words = match words.split_first() {
            // Compose's spelling of the same two forms.
            Some((first, rest)) if first == "CMD" => rest.to_vec(),
            Some((first, rest)) if first == FOR_A_SHELL && !rest.is_empty() => {
                vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.join(" ")]
            }
            Some((first, _)) if first == FOR_A_SHELL => Vec::new(),
            _ => words,
        };
        self.that(!words.is_empty(), "health_check.command", "is empty", "name a program, or leave it out");
        Some(words)
    }

    pub(super) fn url_path(&mut self, field: &str, path: &str) {
        let right = path.starts_with('/') && path.len() <= MAX_URL_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
        self.that(right, field, "is not a path", "start it with '/', e.g. /health");
    }

    pub(super) fn working_dir(&mut self, directory: Option<String>) -> Option<String> {
        let right = directory.as_ref().is_none_or(|path| path == "/" || super::mounts::is_plain_path(path));
        self.that(right, "working_dir", "is not an absolute and plain path", "write e.g. /app");
        directory
    }

    pub(super) fn user(&mut self, user: Option<String>) -> Option<String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        let right = user.as_ref().is_none_or(|user| (1..=MAX_USER).contains(&user.len()) && user.bytes().all(allowed));
        self.that(right, "user", "is not a user", "write a name or number, or both USER:GROUP, e.g. 1000:1000");
        user
    }

    pub(super) fn ports(&mut self, ports: BTreeMap<String, PortNumber>, replicas: u32) -> BTreeMap<u16, u16> {
        let remedy = "use one replica, or leave 'ports' out: the service's own port is routed by its name";
        self.that(ports.is_empty() || replicas == 1, "ports", "fixed host ports cannot be shared by replicas", remedy);
        self.count("ports", ports.len());
        let mut read: BTreeMap<u16, u16> = BTreeMap::new();
        let mut taken = BTreeMap::new();
        for (written, PortNumber(host)) in ports.into_iter().take(MAX_ENTRIES) {
            let field = format!("ports.{}", shown(&written));
            let Some(container) = PortNumber::parse(written.strip_suffix("/tcp").unwrap_or(&written)) else {
                self.wrong(field, "is not a container port", "write {\"80\": 8080}");
                continue;
            };
            if let Some(other) = taken.insert(host, container.0) {
                self.wrong(&field, format!("host port {host} is also given to {other}"), "give each its own host port");
            }
            if read.insert(container.0, host).is_some() {
                self.wrong(field, "is given twice in different spellings", "keep one");
            }
        }
        read
    }

    pub(super) fn networks(&mut self, network: Option<String>, networks: Vec<String>) -> Vec<String> {
        self.count("networks", networks.len());
        let listed = networks.into_iter().take(MAX_ENTRIES).enumerate();
        let all = listed.map(|(index, name)| (format!("networks[{index}]"), name));
        let mut names: Vec<String> = Vec::new();
        for (field, name) in all.chain(network.map(|name| ("network".to_owned(), name))) {
            if self.that(is_plain_name(&name), &field, "is not a network name", NAME_REMEDY) {
                let remedy = "name a network, or leave it out: every service is in the manager's own network";
                self.that(
                    !NETWORK_MODES.contains(&name.as_str()),
                    &field,
                    "is a network mode, which services cannot choose",
                    remedy,
                );
            }
            names.push(name);
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn capabilities(&mut self, names: Vec<String>) -> Vec<String> {
        self.count("cap_add", names.len());
        let mut kept: Vec<String> = Vec::new();
        for (index, written) in names.into_iter().take(MAX_ENTRIES).enumerate() {
            let name = written.to_ascii_uppercase();
            let name = name.strip_prefix("CAP_").unwrap_or(&name);
            if ALLOWED_CAPABILITIES.contains(&name) {
                kept.push(name.to_owned());
            } else {
                let remedy = format!("a service may keep: {}", ALLOWED_CAPABILITIES.join(", "));
                self.wrong(format!("cap_add[{index}]"), format!("'{}' cannot be kept", shown(&written)), remedy);
            }
        }
        kept.sort_unstable();
        kept.dedup();
        kept
    }
}

/// What is wrong with the size of a spec as a whole.
#[must_use]
pub fn too_large(spec: &ServiceSpec) -> Option<FieldError> {
    let mut check = Check::default();
    check.size(spec);
    check.errors.pop()
}

/// A name as engines take it for volumes, networks and secrets.
pub(super) fn is_plain_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

/// The name of an environment variable or a label.
pub(in crate::domain) fn is_variable(text: &str) -> bool {
    (1..=MAX_VARIABLE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'=')
}

/// Whether `text` is an image reference: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`. Whether it exists is found out by pulling it.
#[must_use]
pub fn is_image(text: &str) -> bool {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let word = |text: &str, extra: &[u8]| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
    };
    // A colon before the last slash belongs to the host.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let right_part = |(index, part): (usize, &&str)| {
        // Only a host may have a port, or capitals.
        let may_be_host = index == 0 && parts.len() > 1;
        if let Some((host, port)) = part.split_once(':') {
            return may_be_host && word(host, b".-") && PortNumber::parse(port).is_some();
        }
        word(part, b"._-")
            && part.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
            && !part.contains("..")
            && (may_be_host || !part.bytes().any(|byte| byte.is_ascii_uppercase()))
    };
    text.len() <= MAX_IMAGE
        && parts.iter().enumerate().all(right_part)
        && tag.is_none_or(|tag| {
            tag.len() <= 128 && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) && !tag.is_empty()
        })
        && digest.is_none_or(|digest| {
            digest.split_once(':').is_some_and(|(kind, hex)| word(kind, b"+._-") && hex.len() >= 32 && word(hex, b""))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_told_from_other_text() {
        let digest = "a".repeat(64);
        let good = [
            "nginx",
            "nginx:1.27",
            "docker.io/library/nginx:latest",
            "localhost:5000/a/b_c:v1.0-rc1",
            "localhost/mcp/echo:latest",
            "Registry/a:V1",
        ];
        for good in
            good.into_iter().map(str::to_owned).chain([format!("nginx@sha256:{digest}"), format!("r.io:1/x:t@sha256:{digest}")])
        {
            assert!(is_image(&good), "{good}");
        }
        let bad = [
            "",
            "/x",
            "x/",
            "a//b",
            "a/../b",
            "-x",
            "x:",
            "x@",
            "x@sha256:",
            "x y",
            "x\n",
            "http://x/y",
            "a:0/b",
            "ä",
            "x:tag:",
            "a/b:1/c",
            "Nginx",
            "docker.io/Library/nginx",
        ];
        for bad in bad {
            assert!(!is_image(bad), "{bad}");
        }
    }
}
