//! Images that the fake engine makes: their labels are kept, and what real packages say is said; nothing else happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::backend::{Build, Built, ImageDetail, ImageInfo};
use crate::domain::package::recipe::LOCK_LABEL;
use crate::domain::package::said::{Said, said};
use crate::domain::status::Progress;
use crate::error::{Error, Kind, Result};

/// The images that there are, with their labels.
type Images = BTreeMap<String, BTreeMap<String, String>>;

/// Makes an image; a script that names something missing fails as npm does.
pub(super) fn make(build: Build, progress: &Arc<dyn Fn(Progress) + Send + Sync>, images: &mut Images) -> Built {
    let mut done = 0;
    for line in build.script.lines() {
        if let Said::Step(step) = said(line.trim_start_matches("echo ").trim_matches('\'')) {
            done += 1;
            progress(Progress { message: step.to_owned(), done, total: Some(build.steps) });
        }
    }
    if build.script.contains("missing") {
        return Built::Failed(1, vec!["npm error code E404".to_owned()]);
    }
    let mut labels = build.labels;
    labels.insert(LOCK_LABEL.to_owned(), "{\"example\":\"1.0.0\"}".to_owned());
    images.insert(build.image, labels);
    Built::Made
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
