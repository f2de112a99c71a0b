//! Images that the fake engine makes: their labels are kept, and what real packages say is said; nothing else happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Build, ImageDetail, ImageInfo};
use crate::domain::package::recipe::LOCK_LINE;
use crate::domain::status::Progress;
use crate::error::{Error, Kind, Result};

/// What a build gives.
pub(super) struct Made {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) lines: Vec<String>,
}

/// Makes an image; a recipe that names something missing fails.
pub(super) fn make(build: &Build, progress: &Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Made> {
    let steps: Vec<&str> = build.containerfile.lines().collect();
    let total = u64::try_from(steps.len()).ok();
    for (done, step) in (1..).zip(&steps) {
        progress(Progress { message: (*step).to_owned(), done, total });
    }
    if build.containerfile.contains("missing") {
        return Err(Error::new(Kind::Invalid, format!("the image {} cannot be made: no such package", build.image)));
    }
    let label = |step: &&str| -> Option<(String, String)> {
        let (name, value) = step.strip_prefix("LABEL ")?.split_once('=')?;
        Some((serde_json::from_str(name).ok()?, serde_json::from_str(&value.replace("\\$", "$")).ok()?))
    };
    let labels = steps.iter().filter_map(label).collect();
    Ok(Made { labels, lines: vec![format!("{LOCK_LINE}{{\"example\":\"1.0.0\"}}")] })
}

/// What is known of an image.
pub(super) fn detail(reference: &str, labels: BTreeMap<String, String>) -> ImageDetail {
    ImageDetail { info: info(reference), labels, ports: Vec::new() }
}

/// An image that was pulled; one whose name says that it is missing is not there.
pub(super) fn pulled(image: &str) -> Result<ImageInfo> {
    if image.contains("missing") {
        return Err(Error::new(Kind::ImageNotFound, format!("the image '{image}' does not exist")));
    }
    Ok(info(image))
}

/// What lists show of an image.
pub(super) fn info(image: &str) -> ImageInfo {
    ImageInfo { id: format!("memory:{image}"), names: vec![image.to_owned()], size_bytes: 0 }
}
