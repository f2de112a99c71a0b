//! What some packages need and do not say of themselves, as data: each row was needed to make the package, as it is
//! published, do its work here. What a request says goes first.

use super::{Ecosystem, Package};

/// What a package needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    ecosystem: Ecosystem,
    name: &'static str,
    /// Packages of the same registry, in versions that the package does not insist on and works with.
    pub with: &'static [&'static str],
    /// Packages of the base image's distribution.
    pub system: &'static [&'static str],
    /// Arguments when none are given.
    pub arguments: &'static [&'static str],
    /// Variables.
    pub environment: &'static [(&'static str, &'static str)],
    /// Where what it keeps is, which is a volume, because the rest of the image cannot be written to.
    pub volume: Option<&'static str>,
}

/// Nothing is known.
pub const NOTHING: Known =
    Known { ecosystem: Ecosystem::Npm, name: "", with: &[], system: &[], arguments: &[], environment: &[], volume: None };

const TABLE: [Known; 4] = [
    Known { name: "@modelcontextprotocol/server-filesystem", arguments: &["/data"], volume: Some("/data"), ..NOTHING },
    Known {
        name: "@modelcontextprotocol/server-memory",
        // Its own choice is a file beside its program.
        environment: &[("MEMORY_FILE_PATH", "/data/memory.jsonl")],
        volume: Some("/data"),
        ..NOTHING
    },
    Known {
        ecosystem: Ecosystem::Pypi,
        name: "mcp-server-git",
        system: &["git"],
        // Repositories belong to whoever made them; in the server's container there is nobody to protect from.
        environment: &[("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")],
        volume: Some("/repos"),
        ..NOTHING
    },
    Known {
        ecosystem: Ecosystem::Pypi,
        name: "mcp-server-sqlite",
        // It asks for any version, and uses what the second took away.
        with: &["mcp<2"],
        arguments: &["--db-path", "/data/sqlite.db"],
        volume: Some("/data"),
        ..NOTHING
    },
];

/// What is known of a package; of most, nothing.
#[must_use]
pub fn of(package: &Package) -> Known {
    let same = |known: &&Known| {
        known.ecosystem == package.ecosystem
            && match package.ecosystem {
                Ecosystem::Npm => known.name == package.name,
                Ecosystem::Pypi => same_in_python(known.name, &package.name),
            }
    };
    TABLE.iter().find(same).copied().unwrap_or(NOTHING)
}

/// Whether two names are one to Python, to which `A_b` and `a-b` are.
#[must_use]
pub fn same_in_python(one: &str, other: &str) -> bool {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::super::{Source, is_with};
    use super::*;

    #[test]
    fn every_row_is_one_of_a_package_and_names_what_requests_may_name() {
        for known in TABLE {
            let source: Source = format!("{}:{}", known.ecosystem.as_str(), known.name).parse().unwrap();
            let Source::Package(package) = source else { panic!("{}", known.name) };
            assert_eq!(of(&package), known);
            assert!(known.with.iter().all(|text| is_with(known.ecosystem, text)), "{}", known.name);
            assert!(known.system.iter().all(|text| super::super::is_system_package(text)), "{}", known.name);
        }
    }

    #[test]
    fn names_of_python_packages_are_compared_as_python_does() {
        let package = |name: &str| Package { ecosystem: Ecosystem::Pypi, name: name.to_owned(), version: None };
        assert_eq!(of(&package("MCP_Server.Git")).system, ["git"]);
        assert_eq!(of(&package("mcp-server-gitlab")), NOTHING);
    }
}
