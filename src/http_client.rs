//! Clients of HTTP and HTTPS: by whose word an address of HTTPS is believed. Leaves out what is asked. Shared by the command
//! line and the tests.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};

/// Whose word counts for who answers.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'p> {
    /// Nobody's: no address of HTTPS is asked.
    Nobody,
    /// That of the authorities that the system trusts.
    System,
    /// That of those whose certificates are in this file of PEM, and of no others.
    File(&'p Path),
}

/// A client that uses no proxy. It does with one library for TLS, the one that clusters are asked with.
///
/// # Errors
/// `Invalid` where a file holds no certificates; `NotSupported` where the system has none.
pub fn builder(trust: Trust<'_>) -> Result<ClientBuilder> {
    let roots = match trust {
        Trust::Nobody => RootCertStore::empty(),
        Trust::System => of_system()?,
        Trust::File(path) => of_file(path)?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up", error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    #[expect(clippy::disallowed_methods, reason = "this is where they are made")]
    Ok(reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy())
}

fn of_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    let detail = format!("this machine has no certificates of authorities, without which no address of HTTPS is believed{why}");
    let remedy = "install the system's package ca-certificates, or name a file of certificates with --ca-file";
    Err(Error::new(Kind::NotSupported, detail).remedy(remedy))
}

fn of_file(path: &Path) -> Result<RootCertStore> {
    let wrong = |why: String| {
        let message = format!("{} {why}", path.display());
        Error::invalid_field("--ca-file", message, "name a file with the authority's certificate in PEM")
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(format!("holds a certificate of no use: {error}")))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Why TLS refused to go on, if that is what `error` tells of.
#[must_use]
pub fn distrust(error: &reqwest::Error) -> Option<String> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(said) = error.downcast_ref::<rustls::Error>() {
            return Some(said.to_string());
        }
        // Errors of reading and writing do not name what they wrap as their source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn std::error::Error + 'static)).or_else(|| error.source());
    }
    None
}
