//! A stateful fake for tests and demos.
