//! The REST API, against the running program: on real Podman where containers matter, on the memory backend where they
//! do not.

mod access;
mod aggregate;
mod documents;
mod errors;
mod event_stream;
mod faults;
mod gateway;
mod images;
mod lifecycle;
mod limits;
mod packages;
mod peers;
mod quick_start;
mod stdio;
mod streams;
mod templates;
mod tools;
mod traefik;
mod two_managers;
