//! Claims about writing and deleting templates through the registry.

use super::*;

#[tokio::test]
async fn a_template_is_written_replaced_and_deleted() {
    let rig = Rig::new();
    rig.write("by-hand.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    let (detail, is_new) = registry.put(Some("echo"), json!({"version": "1", "image": "echo:2"})).await.unwrap();
    assert!(!is_new && detail.summary.file == "by-hand.json", "the file that gives this version is replaced: {detail:?}");
    let (detail, is_new) = registry.put(Some("echo@2"), json!({"image": "echo:3"})).await.unwrap();
    assert!(is_new && detail.summary.default && detail.summary.file == "echo.json", "{detail:?}");
    let (detail, _) = registry.put(None, json!({"name": "echo", "version": "3", "image": "echo:4"})).await.unwrap();
    assert_eq!(detail.summary.file, "echo@3.json");
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:4"), "what was written can be used at once");
    assert_eq!(files(&rig.dir()), ["by-hand.json", "echo.json", "echo@3.json"], "nothing else is left behind");

    let error = registry.delete("echo").await.unwrap_err();
    assert!(error.kind == Kind::Conflict && error.detail.contains("echo@2"), "{error}");
    for version in ["1", "2", "3"] {
        registry.delete(&format!("echo@{version}")).await.unwrap();
    }
    assert!(files(&rig.dir()).is_empty() && registry.list().entries().is_empty());
    assert_eq!(registry.delete("echo").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn a_broken_file_can_be_mended_or_deleted_by_its_name() {
    let rig = Rig::new();
    rig.write("echo.json", "{");
    rig.write("junk.json", "{");
    let registry = rig.open().await;
    let (detail, is_new) = registry.put(Some("echo"), json!({"image": "echo:1"})).await.unwrap();
    assert!(is_new && detail.summary.file == "echo.json" && detail.summary.errors.is_empty(), "{detail:?}");
    registry.delete("junk").await.unwrap();
    assert_eq!(files(&rig.dir()), ["echo.json"]);
}

#[tokio::test]
async fn what_is_not_valid_is_not_written() {
    let rig = Rig::new();
    let registry = rig.open().await;
    let refused: [(Option<&str>, Value); 9] = [
        (Some("../evil"), json!({"image": "i"})),
        (Some("a/b"), json!({"image": "i"})),
        (Some(".hidden"), json!({"image": "i"})),
        (Some("x@../../y"), json!({"image": "i"})),
        (Some("x\0y"), json!({"image": "i"})),
        (Some("one"), json!({"name": "other", "image": "i"})),
        (Some("one"), json!({"image": "i", "prot": 1})),
        (None, json!({"image": "i"})),
        (Some("one"), json!([1])),
    ];
    for (name, document) in refused {
        let error = registry.put(name, document.clone()).await.unwrap_err();
        assert!(error.kind == Kind::Invalid && !error.fields.is_empty(), "{name:?} {document}: {error}");
        assert!(error.fields.iter().all(|field| field.remedy.is_some()), "{error}");
    }
    assert!(files(&rig.dir()).is_empty() && files(rig.root.path()) == ["templates"]);
    for reference in ["../templates", "..", "a/../../x"] {
        assert_eq!(registry.delete(reference).await.unwrap_err().kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn a_name_that_looks_like_the_schema_gets_a_file_that_is_read() {
    let rig = Rig::new();
    let registry = rig.open().await;
    let (detail, _) = registry.put(Some("template.schema"), json!({"image": "i"})).await.unwrap();
    assert_eq!(detail.summary.file, "template.schema@0.json");
    assert!(registry.get("template.schema").is_ok());
}

#[tokio::test]
async fn concurrent_writers_of_one_template_leave_one_valid_file() {
    let rig = Rig::new();
    let registry = rig.open().await;
    let puts = (0..20).map(|number| {
        let registry = registry.clone();
        async move { registry.put(Some("echo"), json!({"image": format!("echo:{number}")})).await }
    });
    let answers = futures_util::future::join_all(puts).await;
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().unwrap().1).count(), 1, "one made it, the rest replaced it");
    assert_eq!(files(&rig.dir()), ["echo.json"]);
}

#[tokio::test]
async fn writing_where_it_is_not_possible_says_why_and_leaves_nothing() {
    let rig = Rig::new();
    let registry = rig.open().await;
    if rustix::process::geteuid().is_root() {
        // Root writes anywhere; a vanished directory fails for everybody.
        fs::remove_dir(rig.dir()).unwrap();
        let error = registry.put(Some("echo"), json!({"image": "i"})).await.unwrap_err();
        assert!(error.kind == Kind::Conflict && error.remedy.is_some(), "{error}");
    } else {
        fs::set_permissions(rig.dir(), fs::Permissions::from_mode(0o500)).unwrap();
        let error = registry.put(Some("echo"), json!({"image": "i"})).await.unwrap_err();
        fs::set_permissions(rig.dir(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(error.kind == Kind::NotSupported && error.remedy.is_some(), "{error}");
    }
}

#[test]
fn a_document_is_checked_without_being_kept() {
    let template = Registry::validate(&json!({"name": "echo", "image": "i", "default_config": {"port": 80}})).unwrap();
    assert_eq!(template.spec.port, Some(80));
    let error = Registry::validate(&json!({"name": "echo", "prot": 1, "image": 3})).unwrap_err();
    assert_eq!(error.fields.len(), 2, "{error}");
}

#[tokio::test]
async fn the_first_template_makes_the_directory_and_one_that_is_gone_is_left_to_who_took_it() {
    let rig = Rig::new();
    fs::remove_dir_all(rig.dir()).unwrap();
    let registry = rig.open().await;
    registry.put(Some("echo"), json!({"image": "echo:1"})).await.unwrap();
    assert_eq!((files(&rig.dir()), image(&registry.list(), "echo").as_deref()), (vec!["echo.json".to_owned()], Some("echo:1")));
    fs::remove_dir_all(rig.dir()).unwrap();
    let error = registry.put(Some("echo"), json!({"image": "echo:2"})).await.unwrap_err();
    assert!(error.kind == Kind::Conflict && !rig.dir().exists(), "{error}");
}
