//! What the manager tells about itself: metrics and logs. It observes; it decides nothing.

mod json;
pub mod logging;
pub mod metrics;

pub use metrics::Metrics;
