//! Making images by recipes, and what is known of images that are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use containers_api::conn::{Headers, Payload};
use containers_api::url::{append_query, encoded_pairs};
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::client::{API, Engine, EngineError, successful};
use super::errors;
use crate::backend::{Build, ImageDetail, ImageInfo};
use crate::domain::status::Progress;
use crate::error::{Error, Kind, Result};

/// Name of the recipe in the archive that the engine is sent.
const RECIPE: &str = "Containerfile";

/// So many of the last lines say why a build failed.
const LAST_LINES: usize = 12;

/// More of a build's output is not kept.
const MAX_LINES: usize = 20_000;

/// A longer line is not from a build.
const MAX_LINE: usize = 16 << 20;

/// What a build says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    /// What it or one of its commands wrote.
    stream: Option<String>,
    /// Why it failed.
    error: Option<String>,
}

/// What is read of the engine's description of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Image {
    id: String,
    repo_tags: Option<Vec<String>>,
    size: u64,
    labels: Option<BTreeMap<String, String>>,
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// What is known of an image; nothing when it is not at hand.
pub(super) async fn look(engine: &Engine, reference: &str) -> Result<Option<ImageDetail>> {
    let image = engine.image::<Image>(reference).await.map_err(|error| errors::engine(error, "look at the image"))?;
    Ok(image.map(|image| {
        let port = |text: &String| text.strip_suffix("/tcp").unwrap_or(text).parse().ok();
        ImageDetail {
            info: ImageInfo { id: image.id, names: image.repo_tags.unwrap_or_default(), size_bytes: image.size },
            labels: image.labels.unwrap_or_default(),
            ports: image.config.exposed_ports.unwrap_or_default().keys().filter_map(port).collect(),
        }
    }))
}

/// Makes an image and gives what its commands wrote.
pub(super) async fn build(engine: &Engine, build: &Build, progress: &Arc<dyn Fn(Progress) + Send + Sync>) -> Result<Vec<String>> {
    let archive =
        archive(&build.containerfile).map_err(|error| Error::internal("the recipe of the image cannot be packed", error))?;
    let mut query = vec![
        ("dockerfile", RECIPE.to_owned()),
        ("t", build.image.clone()),
        ("layers", "true".to_owned()),
        ("rm", "true".to_owned()),
        ("forcerm", "true".to_owned()),
        ("nocache", build.refresh.to_string()),
    ];
    if let Some(network) = &build.network {
        query.push(("networkmode", network.clone()));
    }
    let (mut lines, mut failure, mut steps) = (Vec::new(), None, 0);
    let mut path = "/build".to_owned();
    append_query(&mut path, encoded_pairs(query.iter().map(|(key, value)| (*key, value.as_str()))));
    let work = reports(engine, &path, archive, |report| {
        if let Some(error) = report.error {
            failure = Some(error);
        }
        for line in report.stream.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()) {
            if let Some(step) = line.strip_prefix("STEP ") {
                steps += 1;
                progress(Progress { message: shortened(step), done: steps, total: total(step) });
            }
            if lines.len() < MAX_LINES {
                lines.push(line.to_owned());
            }
        }
    });
    let answer = tokio::time::timeout(build.timeout, work).await.map_err(|_| {
        let detail = format!("the image {} was not made within {} seconds", build.image, build.timeout.as_secs());
        Error::new(Kind::Timeout, detail).remedy("try again, or raise the setting packages.build_timeout")
    })?;
    if let Some(message) = failure {
        let from = lines.len().saturating_sub(LAST_LINES);
        let detail = format!("the image {} cannot be made: {message}\n{}", build.image, lines[from..].join("\n"));
        let remedy = "check the name and version of the package; where its registry is not reached, set packages.build_network";
        return Err(Error::new(Kind::Invalid, detail).remedy(remedy));
    }
    answer.map_err(|error| errors::engine(error, "make the image"))?;
    Ok(lines)
}

/// Hands each report of a build to `on_report`; failures are reports with `error` set.
async fn reports(engine: &Engine, path: &str, archive: Vec<u8>, mut on_report: impl FnMut(Report)) -> Result<(), EngineError> {
    let response = engine.raw.post(format!("{API}{path}"), Payload::XTar(archive), None::<Headers>).await?;
    let mut said = successful(response).await?;
    let mut rest = Vec::new();
    while let Some(chunk) = said.next().await {
        rest.extend_from_slice(&chunk?);
        if rest.len() > MAX_LINE {
            return Err(EngineError::Odd(format!("a line of the build is longer than {MAX_LINE} bytes")));
        }
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                on_report(serde_json::from_slice(&line)?);
            }
        }
    }
    Ok(())
}

/// `3/6: RUN …`, without what follows a reader's interest.
fn shortened(step: &str) -> String {
    const LENGTH: usize = 100;
    if step.chars().count() <= LENGTH { step.to_owned() } else { step.chars().take(LENGTH).chain(['…']).collect() }
}

/// The 6 of `3/6: RUN …`.
fn total(step: &str) -> Option<u64> {
    step.split_once('/')?.1.split(':').next()?.parse().ok()
}

/// A tar archive that holds the recipe.
fn archive(containerfile: &str) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(containerfile.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, RECIPE, containerfile.as_bytes())?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_kept_short() {
        assert_eq!(total("3/6: RUN x"), Some(6));
        assert_eq!(total("x"), None);
        assert_eq!(shortened(&"é".repeat(300)).chars().count(), 101);
    }

    #[test]
    fn the_archive_holds_the_recipe() {
        let bytes = archive("FROM scratch\n").unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entries = archive.entries().unwrap();
        let mut entry = entries.next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some(RECIPE));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        assert_eq!(text, "FROM scratch\n");
    }
}
