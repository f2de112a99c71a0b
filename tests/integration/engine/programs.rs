//! Programs that cannot be run in their image.

use mcp_manager::domain::spec::{RestartPolicy, ServiceSpec};
use mcp_manager::error::Kind;

use super::{change, create, fail, finish, is_running};
use crate::contract::podman::Installation;
use crate::contract::{Manager, name, spec};
use crate::support::podman::{ECHO_IMAGE, podman};

/// An image with a file that may not be run, and with a program for a machine that does not exist.
async fn odd_image(installation: &Installation) -> String {
    let folder = tempfile::tempdir().unwrap();
    let image = format!("localhost/{}-odd:1", installation.settings.instance);
    std::fs::write(folder.path().join("text"), "no program").unwrap();
    // The head of an ELF file; the machine is number 0xfffe.
    let mut foreign = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xfe\xff\x01\0\0\0".to_vec();
    foreign.resize(256, 0);
    std::fs::write(folder.path().join("foreign"), foreign).unwrap();
    let recipe = format!("FROM {ECHO_IMAGE}\nCOPY --chmod=0644 text /text\nCOPY --chmod=0755 foreign /foreign\n");
    std::fs::write(folder.path().join("Dockerfile"), recipe).unwrap();
    podman(&["build", "--quiet", "--tag", &image, &folder.path().display().to_string()]).await;
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_run_is_a_failed_creation_with_its_reason_and_no_crash_loop() {
    let Some(installation) = Installation::new().await else { return };
    let image = odd_image(&installation).await;
    let manager = Manager::start(&installation).await;
    let cases = [
        ("/nope", Kind::StartFailed, "/nope"),
        ("nope", Kind::StartFailed, "nope"),
        ("/text", Kind::StartFailed, "/text"),
        ("/foreign", Kind::StartFailed, "not built for this machine"),
    ];
    for (program, kind, text) in cases {
        for restart_policy in [RestartPolicy::Always, RestartPolicy::No] {
            let entrypoint = Some(vec![program.to_owned()]);
            let error =
                fail(&manager, ServiceSpec { image: image.clone(), entrypoint, restart_policy, ..spec(&installation) }).await;
            assert_eq!(error.kind, kind, "{program}: {error}");
            assert!(error.detail.contains(text) && error.remedy.is_some(), "{program}: {error:?}");
        }
    }
    // As a change of what runs, it gives way to that, and says why.
    let before = create(&manager, spec(&installation)).await;
    let broken = ServiceSpec { entrypoint: Some(vec!["/nope".into()]), ..spec(&installation) };
    manager.backend.update(&name("echo"), 1, change(broken)).await.unwrap();
    let after =
        manager.service(&name("echo"), "it was given up", |service| service.failure.is_some() && is_running(service)).await;
    assert_eq!(before.replicas[0].id, after.replicas[0].id);
    let failure = after.failure.clone().unwrap();
    assert!(failure.kind == Kind::StartFailed && failure.detail.contains("'/nope' cannot be run"), "{failure}");
    finish(manager, installation).await;
    podman(&["rmi", "--force", &image]).await;
}
