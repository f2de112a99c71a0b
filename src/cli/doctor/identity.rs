//! Checks of the user: who it is, which further ids it may use, where its sockets go.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::Finding;
use super::machine::Machine;

/// Ids that one container needs.
const ENOUGH: u64 = 65_536;

/// The checks of what each user has alone; of root's they would say nothing about anybody else's.
const OF_USERS: &str = "subuid, subgid, newuidmap, newgidmap, runtime dir, linger, limits, podman, runtime, networks, \
                        rootless network, storage, disk space, podman api";

/// All checks of this file.
pub fn check(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![user(machine)];
    if machine.uid != 0 {
        findings.extend([
            range(machine, "subuid", "/etc/subuid", "--add-subuids"),
            range(machine, "subgid", "/etc/subgid", "--add-subgids"),
            mapper(machine, "newuidmap"),
            mapper(machine, "newgidmap"),
            runtime_dir(machine),
        ]);
        findings.extend(linger(machine));
    }
    findings
}

fn user(machine: &Machine) -> Finding {
    if machine.uid == 0 {
        let message = format!(
            "this is root: containers would run with the rights of the machine's administrator; not looked at, because each \
             user has them alone: {OF_USERS}"
        );
        return Finding::fail(
            "user",
            message,
            "run doctor, and the manager, as an unprivileged user:\nsudo -iu USER mcp-manager doctor",
        );
    }
    Finding::ok("user", format!("{} ({}), unprivileged", machine.user, machine.uid))
}

/// One range of ids: whose, first id, how many.
struct Range<'a> {
    owner: &'a str,
    first: u64,
    count: u64,
}

fn ranges(text: &str) -> impl Iterator<Item = Range<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        Some(Range { owner: fields.next()?, first: fields.next()?.parse().ok()?, count: fields.next()?.parse().ok()? })
    })
}

fn range(machine: &Machine, check: &'static str, file: &str, flag: &str) -> Finding {
    let text = machine.read(file).unwrap_or_default();
    let number = machine.uid.to_string();
    let own = |range: &Range<'_>| range.owner == machine.user || range.owner == number;
    let total: u64 = ranges(&text).filter(own).map(|range| range.count).sum();
    // The next free block of ids, rounded up as the system's own tools do.
    let free = ranges(&text).map(|range| range.first.saturating_add(range.count)).max().unwrap_or(0).max(100_000);
    let command = format!("sudo usermod {flag} {free}-{} {}\npodman system migrate", free + ENOUGH - 1, machine.user);
    if total == 0 {
        let message = format!("{file} gives '{}' no ids, so containers cannot have users of their own", machine.user);
        return Finding::fail(check, message, command);
    }
    if total < ENOUGH {
        let message = format!("{file} gives '{}' {total} ids; images with higher user numbers will not start", machine.user);
        return Finding::fail(check, message, command);
    }
    let mine: Vec<Range<'_>> = ranges(&text).filter(own).collect();
    let overlaps = |other: &Range<'_>| {
        mine.iter().any(|range| range.first < other.first + other.count && other.first < range.first + range.count)
    };
    if let Some(other) = ranges(&text).find(|range| !own(range) && overlaps(range)) {
        let message = format!("{total} ids, shared with '{}': its containers can touch the files of ours", other.owner);
        return Finding::warn(check, message, format!("give each user ids of its own in {file}"));
    }
    Finding::ok(check, format!("{total} ids"))
}

/// The programs that let users use their ranges must be allowed to: setuid, or file capabilities.
fn mapper(machine: &Machine, name: &'static str) -> Finding {
    let Some(path) = machine.program(name) else {
        let message = format!("{name} is not installed, so the ranges of ids cannot be used");
        return Finding::fail(name, message, "sudo apt-get install uidmap");
    };
    let place = machine.at(&path);
    let setuid =
        std::fs::metadata(&place).is_ok_and(|metadata| metadata.permissions().mode() & 0o4000 != 0 && metadata.uid() == 0);
    let mut value = [0_u8; 64];
    let capable = rustix::fs::getxattr(&place, "security.capability", &mut value[..]).is_ok();
    match (setuid, capable) {
        (true, _) => Finding::ok(name, format!("{} (setuid)", path.display())),
        (false, true) => Finding::ok(name, format!("{} (file capabilities)", path.display())),
        (false, false) => {
            let message = format!("{} has lost its rights, so the ranges of ids cannot be used", path.display());
            Finding::fail(name, message, format!("sudo chmod u+s {}", path.display()))
        }
    }
}

fn runtime_dir(machine: &Machine) -> Finding {
    const CHECK: &str = "runtime dir";
    let enable = format!("log in anew, or: sudo loginctl enable-linger {}", machine.user);
    let Some(path) = &machine.runtime_dir else {
        let message = "XDG_RUNTIME_DIR is not set; Podman and the manager fall back to directories in /tmp";
        return Finding::warn(CHECK, message, format!("{enable}\nexport XDG_RUNTIME_DIR=/run/user/{}", machine.uid));
    };
    match std::fs::metadata(machine.at(path)) {
        Err(_) => Finding::fail(CHECK, format!("XDG_RUNTIME_DIR names {}, which does not exist", path.display()), enable),
        Ok(metadata) if metadata.uid() != machine.uid => {
            let message = format!("{} belongs to user {}; Podman will refuse it", path.display(), metadata.uid());
            Finding::fail(CHECK, message, format!("export XDG_RUNTIME_DIR=/run/user/{}", machine.uid))
        }
        Ok(_) => Finding::ok(CHECK, path.display().to_string()),
    }
}

/// Under systemd, what a user started ends with its last session unless it lingers.
fn linger(machine: &Machine) -> Option<Finding> {
    if !machine.has("/run/systemd/system") {
        return None;
    }
    let lingers = machine.has(format!("/var/lib/systemd/linger/{}", machine.user));
    Some(if lingers {
        Finding::ok("linger", "services go on when the user logs out")
    } else {
        let message = "services end when the user logs out, and do not start with the machine";
        Finding::warn("linger", message, format!("sudo loginctl enable-linger {}", machine.user))
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fake::Fake;
    use super::*;

    fn of(text: &str) -> Finding {
        range(&Fake::with(&[("/etc/subuid", text)]).machine, "subuid", "/etc/subuid", "--add-subuids")
    }

    #[test]
    fn a_range_of_65536_ids_is_enough_by_name_or_number_and_in_pieces() {
        assert_eq!(of("dev:100000:65536\n").state, State::Ok);
        assert_eq!(of("1000:100000:65536\n").state, State::Ok);
        assert_eq!(of("dev:100000:40000\ndev:200000:40000\n").state, State::Ok);
    }

    #[test]
    fn too_few_ids_fail_with_a_free_block_in_the_remedy() {
        for text in ["", "other:100000:65536\n", "dev:100000:1000\n", "nonsense\ndev:x:y\n"] {
            assert_eq!(of(text).state, State::Fail, "{text}");
        }
        let remedy = of("other:100000:65536\n").remedy.unwrap();
        assert!(remedy.contains("usermod --add-subuids 165536-231071 dev"), "{remedy}");
    }

    #[test]
    fn ids_shared_with_another_user_are_a_warning() {
        assert_eq!(of("dev:100000:65536\nother:120000:65536\n").state, State::Warn);
    }

    #[test]
    fn root_is_told_to_be_somebody_else_and_nothing_more() {
        let findings = check(&Fake::with(&[]).of_user(0));
        assert_eq!(findings.iter().map(|finding| finding.state).collect::<Vec<_>>(), [State::Fail]);
    }

    #[test]
    fn root_is_told_which_checks_were_left_out() {
        let fake = Fake::with(&[("/run/systemd/system/x", "")]);
        let names = |machine: &Machine| -> Vec<&str> {
            let findings = [check(machine), super::super::kernel::check(machine, false)].concat();
            findings.iter().map(|finding| finding.check).collect()
        };
        let (root, user) = (names(&fake.of_user(0)), names(&fake.of_user(1000)));
        let message = &check(&fake.of_user(0))[0].message;
        let left_out: Vec<&str> = user.into_iter().filter(|name| !root.contains(name)).collect();
        assert!(left_out.len() >= 7, "{left_out:?}");
        for name in left_out {
            assert!(message.contains(&format!(" {name},")), "{name} is missing: {message}");
        }
    }

    #[test]
    fn a_mapper_without_rights_fails() {
        let fake = Fake::with(&[("/usr/bin/newuidmap", "")]);
        assert!(mapper(&fake.machine, "newuidmap").remedy.unwrap().contains("chmod u+s"));
        assert!(mapper(&fake.machine, "newgidmap").remedy.unwrap().contains("install uidmap"));
    }
}
