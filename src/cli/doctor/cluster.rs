//! Checks of a cluster that services are to run in; looking at it is the backend's.

use super::Finding;
use crate::app;
use crate::config::Config;

/// All checks of this file.
pub async fn check(config: &Config) -> Vec<Finding> {
    let looks = match app::examine_cluster(config).await {
        Ok(looks) => looks,
        Err(error) => {
            let remedy = error.remedy.clone().unwrap_or_default();
            return vec![Finding::fail("cluster", error.to_string(), remedy)];
        }
    };
    let findings = looks.into_iter().map(|look| match look.remedy {
        None => Finding::ok(look.check, look.message),
        Some(remedy) if look.fails => Finding::fail(look.check, look.message, remedy),
        Some(remedy) => Finding::warn(look.check, look.message, remedy),
    });
    findings.collect()
}
