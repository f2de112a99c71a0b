//! From the request to the last replica's being ready in a cluster: the manager against `kubectl apply` of the very same
//! objects and `kubectl wait`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::http::ask;
use crate::{figure, percentile};

/// The goal for the medians' ratio.
const GOAL: &str = "<= 1.1";
const KINDS: &str = "serviceaccounts,networkpolicies,services,deployments,ingresses";

#[derive(Args)]
pub struct Arguments {
    /// The manager's address.
    #[arg(long)]
    manager: SocketAddr,
    /// The program kubectl.
    #[arg(long)]
    kubectl: PathBuf,
    /// The file that leads to the cluster.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Namespace of the manager's services.
    #[arg(long)]
    namespace: String,
    /// An image that the nodes have, which listens on port 8000 and answers `GET /health`.
    #[arg(long)]
    image: String,
    /// Starts of each way.
    #[arg(long)]
    rounds: usize,
}

pub fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first round is not counted: it gives the objects, and warms what can be warmed.
    let (_, objects) = managed(arguments, "sample")?;
    applied(arguments, &objects, "sample", "warm")?;
    for round in 0..arguments.rounds {
        let (one, other) = (format!("bench-{round:02}"), format!("plain-{round:02}"));
        // Neither is always the first.
        if round % 2 == 0 {
            ours.push(managed(arguments, &one)?.0);
            theirs.push(applied(arguments, &objects, "sample", &other)?);
        } else {
            theirs.push(applied(arguments, &objects, "sample", &other)?);
            ours.push(managed(arguments, &one)?.0);
        }
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let (our, their) = (percentile(&ours, 0.5), percentile(&theirs, 0.5));
    figure("cluster", "POST /containers to ready: median", our, "s", "");
    figure("cluster", "kubectl apply of the same objects and kubectl wait: median", their, "s", "");
    figure("cluster", "POST /containers : kubectl apply and wait", our / their, "ratio", GOAL);
    Ok(())
}

/// Seconds that a creation by the manager takes, and the objects that it made.
fn managed(arguments: &Arguments, name: &str) -> anyhow::Result<(f64, String)> {
    let body = json!({"service_name": name, "image": arguments.image, "port": 8000, "health_check_path": "/health",
        "pull_policy": "never"});
    let began = Instant::now();
    let answer = ask(arguments.manager, "POST", "/containers", &body.to_string())?;
    let taken = began.elapsed().as_secs_f64();
    let created: Value = serde_json::from_slice(&answer.body)?;
    ensure!(created["status"] == "running", "it is {}", created["status"]);
    let selector = format!("io.mcp-manager.service={name}");
    let listed = kubectl(arguments, &["get", KINDS, "-l", &selector, "-o", "json"])?;
    ask(arguments.manager, "DELETE", &format!("/containers/{name}"), "")?;
    Ok((taken, listed))
}

/// Seconds until the same objects under another name are there and ready.
fn applied(arguments: &Arguments, objects: &str, sample: &str, name: &str) -> anyhow::Result<f64> {
    let mut list: Value = serde_json::from_str(objects)?;
    for object in list["items"].as_array_mut().context("no objects")? {
        let object = object.as_object_mut().context("no object")?;
        object.remove("status");
        for (part, names) in [
            ("metadata", &["uid", "resourceVersion", "creationTimestamp", "ownerReferences", "generation", "managedFields"][..]),
            ("spec", &["clusterIP", "clusterIPs"]),
        ] {
            if let Some(part) = object.get_mut(part).and_then(Value::as_object_mut) {
                part.retain(|key, _| !names.contains(&key.as_str()));
            }
        }
    }
    // They are nobody's: the manager does not see them.
    let text = list.to_string().replace("io.mcp-manager.", "plain.example.").replace(sample, name);
    let file = std::env::temp_dir().join(format!("mcp-bench-{}-{name}.json", std::process::id()));
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    let began = Instant::now();
    kubectl(arguments, &["apply", "-f", &path])?;
    kubectl(arguments, &["wait", "--for=condition=Available", "--timeout=60s", &format!("deployment/mcp-{name}")])?;
    let taken = began.elapsed().as_secs_f64();
    kubectl(arguments, &["delete", "-f", &path, "--cascade=foreground", "--wait=true"])?;
    std::fs::remove_file(&file)?;
    Ok(taken)
}

fn kubectl(arguments: &Arguments, line: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(&arguments.kubectl);
    command.env("KUBECONFIG", &arguments.kubeconfig).args(["--namespace", &arguments.namespace]).args(line);
    let output = command.output().with_context(|| arguments.kubectl.display().to_string())?;
    ensure!(output.status.success(), "kubectl {}: {}", line.join(" "), String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
