//! Checks of the kernel: user namespaces, control groups, the devices that networks and storage need.

use std::fs::OpenOptions;

use super::Finding;
use super::machine::Machine;

/// Which control groups a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2 alone.
    Two,
    /// Version 1, with an empty version 2 beside it.
    Hybrid,
    /// Version 1 alone.
    One,
    /// None that can be seen.
    Unknown,
}

/// All checks of this file.
pub fn check(machine: &Machine, require_limits: bool) -> Vec<Finding> {
    let mut findings = vec![user_namespaces(machine)];
    if machine.uid != 0 {
        findings.push(limits(machine, require_limits));
    }
    findings.push(tunnel(machine));
    findings
}

fn user_namespaces(machine: &Machine) -> Finding {
    const CHECK: &str = "user namespaces";
    let number = |path: &str| machine.read(path).and_then(|text| text.trim().parse::<u64>().ok());
    if !machine.has("/proc/self/ns/user") {
        return Finding::fail(CHECK, "the kernel has none, so nothing can run without root", "use a kernel with CONFIG_USER_NS");
    }
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        let message = "their number is limited to 0, so nothing can run without root";
        return Finding::fail(CHECK, message, persistent("user.max_user_namespaces=28633"));
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        let message = "users may not make any, so nothing can run without root";
        return Finding::fail(CHECK, message, persistent("kernel.unprivileged_userns_clone=1"));
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) && !machine.has("/etc/apparmor.d/podman") {
        let message = "AppArmor allows them to programs with a profile only, and Podman has none here";
        return Finding::warn(CHECK, message, persistent("kernel.apparmor_restrict_unprivileged_userns=0"));
    }
    Finding::ok(CHECK, "allowed")
}

/// A kernel setting, now and after the next start.
fn persistent(setting: &str) -> String {
    format!("echo {setting} | sudo tee /etc/sysctl.d/90-mcp-manager.conf\nsudo sysctl --system")
}

/// Which control groups this machine has.
pub fn cgroups(machine: &Machine) -> Cgroups {
    if machine.has("/sys/fs/cgroup/cgroup.controllers") {
        Cgroups::Two
    } else if machine.has("/sys/fs/cgroup/unified/cgroup.controllers") {
        Cgroups::Hybrid
    } else if machine.has("/sys/fs/cgroup/memory") || machine.has("/sys/fs/cgroup/pids") {
        Cgroups::One
    } else {
        Cgroups::Unknown
    }
}

/// Limits of memory, CPU and processes need version 2 and the controllers handed down to the user.
fn limits(machine: &Machine, require_limits: bool) -> Finding {
    const CHECK: &str = "limits";
    let drawback = |message: String, remedy: &str| {
        if require_limits {
            let remedy = format!("{remedy}\nor set backend.require_limits=false");
            Finding::fail(CHECK, format!("{message}, which backend.require_limits asks for"), remedy)
        } else {
            Finding::warn(CHECK, message, remedy)
        }
    };
    let version = match cgroups(machine) {
        Cgroups::Two => None,
        Cgroups::Hybrid => Some("version 1 with an empty version 2 (hybrid)"),
        Cgroups::One => Some("version 1"),
        Cgroups::Unknown => Some("not mounted"),
    };
    if let Some(version) = version {
        let message = format!("control groups are {version}: memory, CPU and process limits of services cannot be enforced");
        let remedy = "start the machine with version 2: add systemd.unified_cgroup_hierarchy=1 to the kernel's command line";
        return drawback(message, remedy);
    }
    let own = machine.read("/proc/self/cgroup").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
        line.map(|path| format!("/sys/fs/cgroup{}/cgroup.controllers", path.trim_end_matches('/')))
    });
    let session = format!("/sys/fs/cgroup/user.slice/user-{0}.slice/user@{0}.service/cgroup.controllers", machine.uid);
    let controllers = [Some(session), own].into_iter().flatten().find_map(|path| machine.read(path)).unwrap_or_default();
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|wanted| !controllers.split_whitespace().any(|has| has == *wanted))
        .collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, "control groups version 2; cpu, memory and pids are handed down to the user");
    }
    let message = format!("the user has no control over {}: those limits of services cannot be enforced", missing.join(", "));
    drawback(
        message,
        "hand the controllers down, then log in anew:\n\
         sudo mkdir -p /etc/systemd/system/user@.service.d\n\
         printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf\n\
         sudo systemctl daemon-reload",
    )
}

/// Rootless networks are tunnels.
fn tunnel(machine: &Machine) -> Finding {
    const CHECK: &str = "/dev/net/tun";
    let path = machine.at(CHECK);
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(_) => Finding::ok(CHECK, "usable"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = "does not exist, so containers get no network";
            Finding::fail(CHECK, message, "sudo modprobe tun\nin a container: start it with --device /dev/net/tun")
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("cannot be opened ({error}), so containers get no network"),
            "sudo chmod 0666 /dev/net/tun",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fake::Fake;
    use super::*;

    const SESSION: &str = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers";

    #[test]
    fn limits_need_version_two_with_three_controllers() {
        let two = ("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids");
        let good = Fake::with(&[two, (SESSION, "cpuset cpu io memory pids\n")]);
        assert_eq!(limits(&good.machine, true).state, State::Ok);
        let partly = Fake::with(&[two, (SESSION, "memory pids\n")]);
        let finding = limits(&partly.machine, false);
        assert_eq!(finding.state, State::Warn);
        assert!(finding.message.contains("control over cpu:"), "{}", finding.message);
        let inside = Fake::with(&[two, ("/proc/self/cgroup", "0::/\n")]);
        assert_eq!(limits(&inside.machine, false).state, State::Ok, "without a session the own group counts");
    }

    #[test]
    fn old_control_groups_warn_or_fail_as_the_setting_says() {
        let hybrid = Fake::with(&[("/sys/fs/cgroup/unified/cgroup.controllers", ""), ("/sys/fs/cgroup/memory/tasks", "")]);
        assert_eq!(cgroups(&hybrid.machine), Cgroups::Hybrid);
        assert_eq!(limits(&hybrid.machine, false).state, State::Warn);
        assert_eq!(limits(&hybrid.machine, true).state, State::Fail);
        assert_eq!(cgroups(&Fake::with(&[("/sys/fs/cgroup/memory/tasks", "")]).machine), Cgroups::One);
    }

    #[test]
    fn forbidden_user_namespaces_fail_with_the_setting_that_allows_them() {
        let base = ("/proc/self/ns/user", "");
        let state = |path: &str, text: &str| user_namespaces(&Fake::with(&[base, (path, text)]).machine);
        assert_eq!(state("/proc/sys/user/max_user_namespaces", "0\n").state, State::Fail);
        let forbidden = state("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
        assert!(forbidden.remedy.unwrap().contains("kernel.unprivileged_userns_clone=1"));
        assert_eq!(state("/proc/sys/kernel/unprivileged_userns_clone", "1\n").state, State::Ok);
    }

    #[test]
    fn a_missing_tunnel_device_fails() {
        assert_eq!(tunnel(&Fake::with(&[]).machine).state, State::Fail);
    }
}
