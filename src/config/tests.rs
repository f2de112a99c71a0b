//! Claims about settings: which source wins, what is refused and in which words, and what is remembered of the source.

use std::path::Path;

use super::*;
use crate::domain::quantity::{Bytes, MilliCpu, Span};

struct Setup {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
    flags: Vec<Flag>,
}

impl Setup {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = ("HOME".to_owned(), directory.path().join("home").display().to_string());
        Self { directory, variables: vec![home], flags: Vec::new() }
    }

    /// Writes the user's file of settings, where it is found by itself.
    fn file(self, text: &str) -> Self {
        let path = self.file_path();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self
    }

    fn file_path(&self) -> PathBuf {
        self.directory.path().join("home/.config/mcp-manager/config.toml")
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn flag(mut self, path: &str, value: &str) -> Self {
        self.flags.push(Flag { name: "--set".to_owned(), path: path.to_owned(), value: value.to_owned() });
        self
    }

    fn inputs(&self) -> Inputs {
        let environment: Environment = self.variables.iter().cloned().collect();
        let root = self.directory.path();
        let directories = Directories::new(&environment, root.join("work"), root);
        Inputs { file: None, flags: self.flags.clone(), environment, directories }
    }

    fn load(&self) -> Result<Config> {
        load(&self.inputs())
    }

    /// The error's text without the name of the temporary directory.
    fn error(&self) -> String {
        self.load().unwrap_err().to_string().replace(self.directory.path().to_str().unwrap(), "")
    }

    fn origin(&self, path: &str) -> String {
        let config = self.load().unwrap();
        let (_, _, origin) = config.values().into_iter().find(|(setting, ..)| setting.path() == path).unwrap();
        origin.to_string().replace(self.directory.path().to_str().unwrap(), "")
    }
}

#[test]
fn without_any_source_the_defaults_hold() {
    let config = Setup::new().load().unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.limits.max_containers, 100);
    assert_eq!(config.backend.network, "mcp-network");
    assert_eq!(config.health.interval, Span(30_000));
    assert!(!config.auth.enabled && config.telemetry.metrics_enabled && config.server.cors_origins.is_empty());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let setup = Setup::new().file("[limits]\nmax_containers = 1\n");
    assert_eq!(setup.load().unwrap().limits.max_containers, 1);
    assert_eq!(setup.origin("limits.max_containers"), "file /home/.config/mcp-manager/config.toml:2");
    let setup = setup.variable("MAX_CONTAINERS", "2");
    assert_eq!(setup.load().unwrap().limits.max_containers, 2);
    assert_eq!(setup.origin("limits.max_containers"), "variable MAX_CONTAINERS");
    let setup = setup.flag("limits.max_containers", "3");
    assert_eq!(setup.load().unwrap().limits.max_containers, 3);
    assert_eq!(setup.origin("limits.max_containers"), "flag --set");
    assert_eq!(setup.origin("limits.default_pids_limit"), "default");
    assert_eq!(setup.origin("templates.dir"), "default on this machine");
}

#[test]
fn the_documented_variables_are_understood() {
    let config = Setup::new()
        .variable("CONTAINER_RUNTIME", "podman")
        .variable("CONTAINERS_STORAGE_DRIVER", "overlay")
        .variable("CONTAINERS_STORAGE_RUNROOT", "/tmp/containers")
        .variable("CONTAINERS_STORAGE_GRAPHROOT", "/var/lib/containers/storage")
        .variable("MCP_NETWORK", "other")
        .variable("DEFAULT_MEMORY_LIMIT", "1g")
        .variable("DEFAULT_CPU_LIMIT", "1.0")
        .variable("MAX_CONTAINERS", "500")
        .variable("ENABLE_AUTH", "false")
        .variable("CORS_ORIGINS", "https://a.example, http://localhost:3000")
        .variable("ENABLE_METRICS", "true")
        .variable("HEALTH_CHECK_INTERVAL", "15")
        .variable("LOG_LEVEL", "DEBUG")
        .variable("ALLOWED_HOST_PATHS", "/srv,/data")
        .load()
        .unwrap();
    assert_eq!(config.backend.kind, BackendKind::Podman);
    assert_eq!(config.backend.storage_graphroot.as_deref(), Some(Path::new("/var/lib/containers/storage")));
    assert_eq!(config.limits.default_memory_limit, Bytes(1 << 30));
    assert_eq!(config.limits.default_cpu_limit, MilliCpu(1000));
    assert_eq!(config.server.cors_origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(config.health.interval, Span(15_000));
    let defaults = config.spec_defaults();
    assert_eq!(defaults.allowed_host_paths, ["/srv", "/data"]);
    assert_eq!(defaults.health_interval, Span(15_000));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn everything_wrong_is_reported_at_once_with_its_source() {
    let setup = Setup::new()
        .file(
            "[limits]\nmax_containers = 0\nmax_containrs = 3\n[server]\nlisten = 8000\ndomain = 'a b'\n\
             [helth]\ninterval = 3\n[backend]\nkind = [\"podman\"]\n[auth]\nenabled = true\n",
        )
        .variable("CONTAINER_RUNTIME", "docker")
        .variable("DEFAULT_MEMORY_LIMIT", "lots")
        .variable("LOG_LEVEL", "loud")
        .variable("MCP_MANAGER_HEALTH_INTERVAL", "1ms")
        .flag("server.worker_threads", "none")
        .flag("server.lisen", "x");
    insta::assert_snapshot!(setup.error());
}

#[test]
fn of_numbers_just_what_is_said_to_be_allowed_is_allowed() {
    let mut looked_at = 0;
    for (setting, ..) in Setup::new().load().unwrap().values() {
        let Some((first, last)) = setting.allowed.strip_prefix("a whole number from ").and_then(|range| range.split_once(" to "))
        else {
            continue;
        };
        let (first, last): (i64, i64) = (first.parse().unwrap(), last.parse().unwrap());
        for (number, right) in [(first - 1, false), (first, true), (last, true), (last + 1, false)] {
            let loaded = Setup::new().flag(&setting.path(), &number.to_string()).load();
            assert_eq!(loaded.is_ok(), right, "{} = {number}: {loaded:?}", setting.path());
        }
        let told = Setup::new().flag(&setting.path(), "many").error();
        assert!(told.contains(setting.allowed), "{told}");
        looked_at += 1;
    }
    assert!(looked_at >= 6, "{looked_at}");
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    insta::assert_snapshot!(Setup::new().file("[limits\nmax_containers = \n").error());
}

#[test]
fn a_setting_outside_its_section_is_told_its_place() {
    let error = Setup::new().file("max_containers = 3\n").error();
    assert!(error.contains("write 'max_containers' below [limits]"), "{error}");
}

#[test]
fn a_named_file_must_exist_and_the_flag_goes_before_the_variable() {
    let setup = Setup::new().variable("MCP_MANAGER_CONFIG", "/nonexistent/by-variable.toml");
    assert!(setup.error().contains("/nonexistent/by-variable.toml cannot be read"));
    let inputs = Inputs { file: Some("/nonexistent/by-flag.toml".into()), ..setup.inputs() };
    assert!(load(&inputs).unwrap_err().to_string().contains("by-flag.toml"));
}

#[test]
fn a_variable_with_our_prefix_that_is_no_setting_is_a_warning_with_the_nearest_name() {
    let setup = Setup::new()
        .variable("MCP_MANAGER_LIMITS_MAX_CONTAINER", "3")
        .variable("CONTAINERS_STORAGE_DRVER", "x")
        .variable("MCP_MANAGER_FOO", "x")
        .variable("MCP_MANAGER_SECRET_KEY", "x")
        .variable("MCP_MANAGER_SERVER", "http://127.0.0.1:1")
        .variable("CONTAINERS_STORAGE_CONF", "/x");
    let warnings = setup.load().unwrap().warnings;
    insta::assert_snapshot!(warnings.join("\n"));
}

#[test]
fn the_more_explicit_of_two_variables_counts_and_says_so() {
    let setup = Setup::new().variable("MAX_CONTAINERS", "1").variable("MCP_MANAGER_LIMITS_MAX_CONTAINERS", "2");
    let config = setup.load().unwrap();
    assert_eq!(config.limits.max_containers, 2);
    assert_eq!(
        config.warnings,
        ["MCP_MANAGER_LIMITS_MAX_CONTAINERS is set and counts; MAX_CONTAINERS says something else and is ignored"]
    );
}

#[test]
fn a_variable_set_to_nothing_counts_as_not_set() {
    assert_eq!(Setup::new().variable("MAX_CONTAINERS", "").load().unwrap().limits.max_containers, 100);
}

#[test]
fn doubtful_settings_are_warnings() {
    let setup = Setup::new()
        .variable("CORS_ORIGINS", "*")
        .variable("MCP_MANAGER_LISTEN", "0.0.0.0:8000")
        .variable("REDIS_URL", "redis://:hunter2@redis:6379/0");
    let warnings = setup.load().unwrap().warnings.join("\n");
    for part in ["CORS_ORIGINS is *", "listens on 0.0.0.0:8000", "REDIS_URL has no effect"] {
        assert!(warnings.contains(part), "{part} is missing in {warnings}");
    }
    assert!(!warnings.contains("hunter2"));
}

#[test]
fn no_variable_belongs_to_two_settings_and_every_setting_says_what_it_does() {
    let settings = settings();
    let mut names: Vec<String> = settings.iter().flat_map(|setting| variables::names(setting, &settings)).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
    for setting in &settings {
        assert!(setting.meaning.ends_with('.') && setting.meaning.len() > 10, "{}", setting.path());
        assert!(!setting.meaning.contains('|'), "{} would break the table", setting.path());
    }
}

proptest::proptest! {
    // Each case loads all settings once for each of them.
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]

    #[test]
    fn no_file_and_no_variable_makes_the_manager_panic(text in "(\\PC|\n|\\[|=|\"){0,80}", value in "\\PC{0,40}", section in "[a-z]{1,8}") {
        let settings = settings();
        let named = format!("[{section}]\n{text}");
        for text in [&text, &named] {
            let _ = file::File::parse(text, Path::new("x"), &settings);
        }
        for setting in &settings {
            let inputs = Inputs {
                file: None,
                flags: vec![Flag { name: "--set".into(), path: setting.path(), value: value.clone() }],
                environment: Environment::default(),
                directories: Directories::default(),
            };
            let _ = load(&inputs);
        }
    }
}

#[test]
fn every_setting_is_used_by_somebody() {
    fn sources(directory: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = Vec::new();
    sources(&root, &mut texts);
    let word = |text: &str, part: &str| {
        text.match_indices(part)
            .any(|(at, _)| !text[at + part.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_'))
    };
    let unused = settings().into_iter().filter(|setting| {
        let outside = texts.iter().any(|text| word(text, &format!(".{}", setting.path())));
        // A section may offer its fields through functions; that they are checked is no use of them.
        let own = std::fs::read_to_string(root.join(format!("config/{}.rs", setting.section))).unwrap();
        let (before, from_check) = own.split_once("fn validate").unwrap();
        let after = from_check.split_once("\n    }\n").map_or("", |(_, after)| after);
        let inside = [before, after].iter().any(|text| word(text, &format!("self.{}", setting.field)));
        !outside && !inside
    });
    assert_eq!(unused.map(|setting| setting.path()).collect::<Vec<_>>(), Vec::<String>::new(), "are read and passed to nobody");
}

#[test]
fn routes_of_a_cluster_are_of_one_kind_and_a_gateway_is_named() {
    let asked = |more: &[(&str, &str)]| {
        more.iter().fold(Setup::new(), |setup, (name, value)| setup.flag(&format!("kubernetes.{name}"), value))
    };
    let nameless = asked(&[("route_kind", "httproute"), ("ingress_tls_secret", "certificate")]).error();
    for part in
        ["kubernetes.gateway: is not set", "kubernetes.gateway_namespace", "kubernetes.ingress_tls_secret: is set", "listener"]
    {
        assert!(nameless.contains(part), "{part} is missing in {nameless}");
    }
    let unknown = asked(&[("route_kind", "gateway"), ("gateway_namespace", "Edge"), ("gateway", "a b")]).error();
    for part in ["ingress, ingressroute or httproute", "kubernetes.gateway_namespace", "is not the name of a Gateway"] {
        assert!(unknown.contains(part), "{part} is missing in {unknown}");
    }
    let whole = asked(&[("route_kind", "httproute"), ("gateway", "front"), ("ingress_class", "inner")]).load().unwrap();
    assert_eq!(whole.kubernetes.route_kind, RouteKind::HttpRoute);
    assert_eq!(whole.warnings, ["kubernetes.ingress_class has no effect on routes of the kind httproute"]);
    let without = asked(&[("route_kind", "httproute"), ("ingress", "false")]).load().unwrap();
    assert_eq!(without.warnings, Vec::<String>::new());
}

#[test]
fn what_egress_leaves_out_is_a_part_of_the_ipv4_addresses() {
    let asked = |ranges: &str| Setup::new().flag("kubernetes.egress_except", ranges);
    for bad in ["fd00::/8", "0.0.0.0/0", "10.0.0.1", "10.0.0.0/33", "inside"] {
        let error = asked(&format!("10.0.0.0/8,{bad}")).error();
        let told = format!("kubernetes.egress_except: '{bad}' is not a part of the IPv4 addresses");
        assert!(error.contains(&told) && error.contains("use ranges such as 10.0.0.0/8"), "{error}");
    }
    let fine = asked("10.0.0.0/8,203.0.113.7/32").load().unwrap();
    assert_eq!(fine.kubernetes.egress_except, ["10.0.0.0/8", "203.0.113.7/32"]);
}
