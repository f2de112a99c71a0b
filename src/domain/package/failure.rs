//! Why a package's image could not be made, from what the installers said. Each pattern was seen; what matches none keeps the
//! installers' own words.

use super::{Ecosystem, Package, shown};
use crate::error::{Error, Kind};

/// So many of the last lines say why, when nothing else does, and so many characters of each.
const LAST_LINES: usize = 12;
const MAX_SAID: usize = 500;

/// The error for a script that ended with `code` after it had said `lines`; with code 0 it has not said what was installed.
#[must_use]
pub fn failure(package: &Package, code: i64, lines: &[String]) -> Error {
    let has = |words: &[&str]| lines.iter().find(|line| words.iter().any(|word| line.contains(word)));
    let cut = |line: &String| line.chars().take(MAX_SAID).collect::<String>();
    let last: Vec<String> = lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(cut).collect();
    let last = last.join("\n");
    let because = |error: Error| error.because(std::io::Error::other(last.clone()));
    let registry = match package.ecosystem {
        Ecosystem::Npm => "npm",
        Ecosystem::Pypi => "PyPI",
    };
    if code == 0 {
        let message = format!("what was installed for {package} has names or versions that no registry gives, or too many");
        return because(Error::invalid_field("source", message, "choose another version, or another package"));
    }
    if has(&["ENOSPC", "No space left on device"]).is_some() {
        let remedy = "remove images and volumes that are not needed (podman system prune), or enlarge the disk; what is large while \
                      it is installed needs memory, too";
        return because(Error::new(Kind::NoSpace, format!("no space is left for installing {package}")).remedy(remedy));
    }
    if let Some(line) =
        has(&["CERTIFICATE_VERIFY_FAILED", "SELF_SIGNED_CERT", "UNABLE_TO_GET_ISSUER_CERT", "unable to get local issuer"])
    {
        let detail = format!("the registry {registry} shows a certificate that the base image does not trust: {}", shown(line));
        let remedy = "choose a base image that has the certificate (settings packages.npm_image, packages.pypi_image)";
        return because(Error::new(Kind::RegistryUnavailable, detail).remedy(remedy));
    }
    let network = [
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ECONNRESET",
        "ETIMEDOUT",
        "ENETUNREACH",
        "EHOSTUNREACH",
        "NewConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Temporary failure in name resolution",
        "Temporary failure resolving",
        "Network is unreachable",
    ];
    if let Some(line) = has(&network) {
        let detail = format!("the registry {registry} cannot be reached from the build: {}", shown(line));
        let remedy = "see whether this machine is online; where registries are reached by the host's own way only, set \
                      packages.build_network to host";
        return because(Error::new(Kind::RegistryUnavailable, detail).remedy(remedy));
    }
    let named = |message: String, remedy: &str| because(Error::invalid_field("source", message, remedy));
    let name = &package.name;
    if has(&["npm error code E404"]).is_some() {
        return named(format!("npm has no package '{name}' that everybody may have"), "check the name");
    }
    if has(&["npm error code ETARGET", "npm error code ENOVERSIONS"]).is_some() {
        let version = package.version.as_deref().unwrap_or_default();
        return named(format!("npm has no version '{version}' of '{name}'"), "leave the version out for the newest");
    }
    if let Some(line) = has(&["Could not find a version that satisfies the requirement"]) {
        let versions = line.split_once("(from versions: ").map_or("none", |(_, rest)| rest.trim_end_matches(')'));
        if versions == "none" {
            let remedy = "check the name; a package that has to be built needs --install-scripts, where the manager allows it";
            return named(format!("PyPI has no package for this: {}", shown(requirement(line))), remedy);
        }
        let some: Vec<&str> = versions.rsplit(", ").take(5).collect();
        let message = format!("PyPI has no such version: {}; the newest are {}", shown(requirement(line)), some.join(", "));
        return named(message, "name one of these, or leave the version out for the newest");
    }
    if let Some(line) = has(&["ResolutionImpossible", "Cannot install"]) {
        return named(
            format!("its packages do not fit together: {}", shown(line)),
            "change the versions in --with, or leave them out",
        );
    }
    if code == 64
        && let Some(programs) = has(&["the package has "])
    {
        let remedy = "name one of them (--program), if there is one; otherwise this is a library and no server";
        return because(Error::invalid_field("program", cut(programs), remedy));
    }
    if let Some(line) = has(&["Unable to locate package", "has neither apt-get nor apk"]) {
        return because(Error::invalid_field("system_packages", shown(line), "check the name, or choose another base image"));
    }
    let detail = format!("installing {package} failed with code {code}; the last that it said:\n{last}");
    Error::new(Kind::Invalid, detail).remedy("see what it said; some packages need --install-scripts, --with or --system")
}

/// The `x==1` of pip's sentence.
fn requirement(line: &str) -> &str {
    line.split_once("requirement ").map_or(line, |(_, rest)| rest.split(" (from").next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::super::Source;
    use super::*;

    fn told(source: &str, code: i64, said: &str) -> Error {
        let Source::Package(package) = source.parse().unwrap() else { panic!("{source}") };
        failure(&package, code, &said.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_repeated_of_installers_is_not_long() {
        let said = [format!("the package has {}", "x".repeat(9_000)), "y".repeat(9_000)].join("\n");
        for code in [1, 64] {
            let error = told("npm:x", code, &said);
            assert!(format!("{} {:?}", error.detail, error.fields).len() < 2_000, "{error:?}");
        }
    }

    #[test]
    fn what_installers_say_becomes_what_to_do() {
        for (source, code, said, kind, words) in [
            ("npm:x", 1, "npm error code E404\nnpm error 404 Not Found", Kind::Invalid, "no package 'x'"),
            ("npm:x@9", 1, "npm error code ETARGET", Kind::Invalid, "no version '9'"),
            (
                "npm:x",
                1,
                "npm error code ENOTFOUND\nnpm error errno ENOTFOUND",
                Kind::RegistryUnavailable,
                "npm cannot be reached",
            ),
            ("npm:x", 1, "npm error ENOSPC: no space left", Kind::NoSpace, "no space"),
            (
                "pypi:x@9",
                1,
                "ERROR: Could not find a version that satisfies the requirement x==9 (from versions: 1, 2)",
                Kind::Invalid,
                "x==9; the newest are 2, 1",
            ),
            (
                "pypi:x",
                1,
                "ERROR: Could not find a version that satisfies the requirement x (from versions: none)",
                Kind::Invalid,
                "no package for this: x",
            ),
            (
                "pypi:x",
                1,
                "WARNING: Retrying: NewConnectionError('x')\nERROR: Could not find a version that satisfies the requirement x (from versions: none)",
                Kind::RegistryUnavailable,
                "PyPI cannot be reached",
            ),
            ("npm:x", 64, "the package has the programs a, b", Kind::Invalid, "a, b"),
            ("npm:x", 3, "one\ntwo", Kind::Invalid, "one\ntwo"),
            ("npm:x", 0, "ENOSPC", Kind::Invalid, "that no registry gives"),
        ] {
            let error = told(source, code, said);
            let text = format!("{} {:?}", error.detail, error.fields);
            assert!(error.kind == kind && (text.contains(words) || error.detail.contains(words)), "{said}: {error:?}");
            assert!(error.remedy.is_some() || !error.fields.is_empty(), "{said}: {error:?}");
        }
    }
}
