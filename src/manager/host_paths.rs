//! The look at the machine that `domain::spec` leaves out: does a host path lead out of the allow-list through a
//! symbolic link?

use std::path::Path;

use crate::domain::spec::{MountSource, ServiceSpec};
use crate::error::{Error, FieldError, Result};

/// Replaces each host path of `spec` by where it really leads, and refuses those that lead out of `allowed`.
/// `fields` says where each volume was written.
pub async fn pin(spec: &mut ServiceSpec, allowed: &[String], fields: &[String]) -> Result<()> {
    let mut roots = Vec::new();
    for root in allowed {
        // An allowed directory that does not exist allows nothing.
        roots.extend(tokio::fs::canonicalize(root).await.ok());
    }
    let mut errors = Vec::new();
    for (index, mount) in spec.volumes.iter_mut().enumerate() {
        let MountSource::Host(path) = &mut mount.source else { continue };
        let field = fields.get(index).cloned().unwrap_or_else(|| format!("volumes[{index}]"));
        match tokio::fs::canonicalize(Path::new(path)).await {
            Ok(real) if roots.iter().any(|root| real.starts_with(root)) => match real.into_os_string().into_string() {
                Ok(real) => *path = real,
                Err(_) => errors.push(FieldError::new(field, format!("the host path {path} is not UTF-8"), "use another path")),
            },
            Ok(_) => errors.push(FieldError::new(
                field,
                format!("the host path {path} leads out of the allowed directories"),
                format!("mount below one of {} without links that lead elsewhere", allowed.join(", ")),
            )),
            Err(error) => {
                errors.push(FieldError::new(field, format!("the host path {path} cannot be used: {error}"), "create it first"));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Error::invalid("the volumes cannot be mounted", errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::Mount;

    #[tokio::test]
    async fn a_link_out_of_the_allow_list_is_refused_and_one_inside_is_pinned() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("data")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("data"), root.join("in")).unwrap();
        let allowed = [root.display().to_string()];
        let mount = |name: &str| {
            let source = MountSource::Host(root.join(name).display().to_string());
            ServiceSpec { volumes: vec![Mount { source, target: "/x".into(), read_only: true }], ..ServiceSpec::default() }
        };
        let error = pin(&mut mount("out"), &allowed, &["volumes.out".into()]).await.unwrap_err();
        assert!(error.detail.contains("leads out") && error.fields[0].field == "volumes.out", "{error:?}");
        assert!(pin(&mut mount("gone"), &allowed, &[]).await.is_err());
        let mut inside = mount("in");
        pin(&mut inside, &allowed, &[]).await.unwrap();
        assert_eq!(inside.volumes[0].source, MountSource::Host(root.join("data").display().to_string()));
    }
}
