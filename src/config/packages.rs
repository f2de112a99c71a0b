//! Section `packages`: how images are made for packages that run as servers.

use super::section::{Check, section};
use crate::domain::quantity::Span;

section! {
    /// How images are made for packages that run as servers.
    pub struct Packages in "packages" {
        /// Image that those of npm packages begin with; it has node and npm.
        npm_image: String = "docker.io/library/node:22-slim".to_owned();
        /// Image that those of `PyPI` packages begin with; it has python.
        pypi_image: String = "docker.io/library/python:3.13-slim".to_owned();
        /// Network of builds, e.g. `host` where registries are reached by the host's own way only; the engine's default
        /// unless set.
        build_network: Option<String> = None;
        /// Longest time for making an image.
        build_timeout: Span = Span(900_000);
        /// Requests may let packages run programs while they are installed. Such programs run with the network of builds.
        allow_install_scripts: bool = false;
    }
}

impl Packages {
    fn validate(&self, check: &mut Check) {
        for (field, image) in [("npm_image", &self.npm_image), ("pypi_image", &self.pypi_image)] {
            let right = crate::domain::spec::is_image(image);
            check.that(right, field, "is not an image reference", "write e.g. docker.io/library/node:22-slim");
        }
        let word =
            |name: &String| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
        check.that(self.build_network.as_ref().is_none_or(word), "build_network", "is not a network", "write e.g. host");
        let hour = 3_600_000;
        check.that((10_000..=6 * hour).contains(&self.build_timeout.0), "build_timeout", "is out of range", "use 10s to 6h");
    }
}
