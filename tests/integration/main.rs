//! The one integration binary: claims about the product's behaviour, made through its public faces.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in a test, a panic is how a claim fails")]
#![expect(clippy::disallowed_methods, reason = "tests start tasks of their own, which end with the test")]

mod api;
mod bridge;
mod cli;
mod cluster;
mod conformance;
mod contract;
mod documents;
mod echo;
mod engine;
mod quickstart;
mod real_servers;
mod support;
mod templates;
mod tidy;
