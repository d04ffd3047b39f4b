//! What the path of a control group tells: the container, the pod, the systemd unit. Pure.
//!
//! Runtimes name the groups; the forms known here are listed at each rule. Both the v2 hierarchy
//! and v1's per-controller ones give such paths.

use bytes::Bytes;
use event::Container;

/// What a control group's path tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// The innermost container on the path.
    pub container: Option<Container>,
    /// The innermost systemd service or scope that is not the container itself. Below a user's own
    /// manager, where that user chooses the names, with the manager's: `user@1000.service/x.service`.
    pub unit: Option<Bytes>,
}

impl Membership {
    /// Reads a path such as `/system.slice/ssh.service`.
    #[must_use]
    pub fn of_path(path: &[u8]) -> Self {
        Self::of_components(path.split(|byte| *byte == b'/').filter(|c| !c.is_empty()))
    }

    /// Reads path components, outermost first.
    pub fn of_components<'a>(components: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        let (mut pod, mut parent) = (None, &b""[..]);
        let mut manager = Vec::new();
        for component in components {
            // The whole is `slice:runtime:id` where a runtime without systemd was told to use it.
            let last = component.rsplit(|b| *b == b':').next().unwrap_or(component);
            pod = pod_uid(component).or(pod);
            if let Some((runtime, id)) = container(component, last, parent) {
                found.container = Some(Container {
                    id: Bytes::copy_from_slice(id),
                    runtime: Bytes::copy_from_slice(runtime),
                    pod_uid: pod.clone(),
                });
            } else if component.ends_with(b".service") || component.ends_with(b".scope") {
                found.unit = Some([&manager[..], component].concat().into());
                if manager.is_empty() && component.starts_with(b"user@") {
                    manager = [component, b"/"].concat();
                }
            }
            parent = component;
        }
        found
    }
}

/// Prefixes of a container's group, and the runtime. Those of a container's monitor come first and
/// are none: `libpod-conmon-<id>.scope` runs on the host.
const PREFIXES: [(&[u8], &[u8]); 11] = [
    (b"libpod-conmon-", b""),
    (b"crio-conmon-", b""),
    (b"libpod-payload-", b"podman"),
    (b"libpod-", b"podman"),
    (b"docker-", b"docker"),
    (b"cri-containerd-", b"containerd"),
    (b"nerdctl-", b"containerd"),
    (b"crio-", b"cri-o"),
    (b"buildkit-", b"buildkit"),
    (b"lxc.payload.", b"lxc"),
    (b"systemd-nspawn@", b"systemd-nspawn"),
];

/// Groups whose children are containers by their bare id, where a runtime drives cgroupfs itself.
const PARENTS: [(&[u8], &[u8]); 8] = [
    (b"docker", b"docker"),
    (b"libpod_parent", b"podman"),
    (b"crio", b"cri-o"),
    (b"lxc", b"lxc"),
    (b"lxc.payload", b"lxc"),
    (b"ecs", b"docker"),
    (b"default", b"containerd"),
    (b"k8s.io", b"containerd"),
];

/// Runtime and id, if a component is a container's group.
fn container<'a>(
    component: &'a [u8],
    last: &'a [u8],
    parent: &[u8],
) -> Option<(&'static [u8], &'a [u8])> {
    let name = strip_suffixes(last);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix) {
            let named = matches!(runtime, b"lxc" | b"systemd-nspawn");
            let valid = !runtime.is_empty() && !id.is_empty() && (named || is_id(id));
            return valid.then_some((runtime, id));
        }
    }
    let by_parent = PARENTS.iter().find(|(name, _)| *name == parent);
    if by_parent.is_some_and(|(_, runtime)| *runtime == b"lxc") {
        return Some((b"lxc", name));
    }
    if !is_id(name) {
        return None;
    }
    let runtime = match by_parent {
        Some((_, runtime)) => runtime,
        None => runtime_between_colons(component).unwrap_or(b""),
    };
    Some((runtime, name))
}

fn strip_suffixes(name: &[u8]) -> &[u8] {
    let name = name.strip_suffix(b".scope").unwrap_or(name);
    name.strip_suffix(b".service").unwrap_or(name)
}

/// `kubepods-burstable-pod….slice:cri-containerd:<id>`
fn runtime_between_colons(component: &[u8]) -> Option<&'static [u8]> {
    let mut parts = component.rsplit(|b| *b == b':');
    match (parts.next(), parts.next()?) {
        (_, b"cri-containerd") => Some(b"containerd"),
        (_, b"crio") => Some(b"cri-o"),
        (_, b"docker") => Some(b"docker"),
        _ => None,
    }
}

/// 64 hexadecimal digits, or Amazon's 32 and a number.
fn is_id(id: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match id.len() {
        64 => is_hex(id),
        34..=48 => {
            let (task, number) = id.split_at(32);
            is_hex(task) && number[0] == b'-' && number[1..].iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

/// `kubepods-burstable-pod01234567_89ab_….slice` (systemd) or `pod01234567-89ab-…` (cgroupfs), the
/// former also before a colon.
fn pod_uid(component: &[u8]) -> Option<Bytes> {
    let name = component.split(|b| *b == b':').next()?;
    let uid = match name.strip_suffix(b".slice") {
        Some(name) if name.starts_with(b"kubepods") => {
            let at = name.windows(4).rposition(|w| w == b"-pod")?;
            &name[at + 4..]
        }
        _ => name.strip_prefix(b"pod")?,
    };
    let is_uid = uid.len() >= 32
        && uid
            .iter()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'_'));
    is_uid.then(|| {
        let dashed: Vec<u8> = uid
            .iter()
            .map(|b| if *b == b'_' { b'-' } else { *b })
            .collect();
        dashed.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn check(path: &str, container: Option<(&str, &str, Option<&str>)>, unit: Option<&str>) {
        let path = path.replace("ID", ID);
        let path = path
            .replace("POD_", &POD.replace('-', "_"))
            .replace("POD", POD);
        let found = Membership::of_path(path.as_bytes());
        let expected = container.map(|(id, runtime, pod)| Container {
            id: Bytes::from(id.replace("ID", ID)),
            runtime: Bytes::copy_from_slice(runtime.as_bytes()),
            pod_uid: pod.map(|_| Bytes::from_static(POD.as_bytes())),
        });
        assert_eq!(found.container, expected, "{path}");
        let unit = unit.map(|unit| unit.replace("ID", ID));
        assert_eq!(
            found.unit.as_deref(),
            unit.as_ref().map(String::as_bytes),
            "{path}"
        );
    }

    #[test]
    fn hosts_have_units_and_no_containers() {
        check("/", None, None);
        check("/system.slice/ssh.service", None, Some("ssh.service"));
        check(
            "/user.slice/user-1000.slice/session-3.scope",
            None,
            Some("session-3.scope"),
        );
        check(
            "/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service",
            None,
            Some("user@1000.service/ssh.service"),
        );
        check("/system.slice/docker.service", None, Some("docker.service"));
        check("/init.scope", None, Some("init.scope"));
    }

    #[test]
    fn docker_podman_and_lxc_containers() {
        let docker = Some(("ID", "docker", None));
        let podman = Some(("ID", "podman", None));
        check("/docker/ID", docker, None);
        check("/system.slice/docker-ID.scope", docker, None);
        check(
            "/system.slice/docker-ID.scope/system.slice/nginx.service",
            docker,
            Some("nginx.service"),
        );
        check("/docker/ID/docker/ID", docker, None);
        check("/machine.slice/libpod-ID.scope/container", podman, None);
        check(
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            podman,
            Some("user@1000.service"),
        );
        check(
            "/system.slice/web.service/libpod-payload-ID",
            podman,
            Some("web.service"),
        );
        check(
            "/machine.slice/libpod-conmon-ID.scope",
            None,
            Some("libpod-conmon-ID.scope"),
        );
        check("/libpod_parent/libpod-ID", podman, None);
        check("/lxc/web1", Some(("web1", "lxc", None)), None);
        check(
            "/lxc.payload.web1/init.scope",
            Some(("web1", "lxc", None)),
            Some("init.scope"),
        );
        check("/lxc.monitor.web1", None, None);
        check(
            "/machine.slice/systemd-nspawn@box.service/payload",
            Some(("box", "systemd-nspawn", None)),
            None,
        );
        check(
            "/ecs/0123/0123456789abcdef0123456789abcdef-1234567890",
            Some(("0123456789abcdef0123456789abcdef-1234567890", "", None)),
            None,
        );
    }

    #[test]
    fn kubernetes_pods_with_each_runtime_and_driver() {
        let of = |runtime| Some(("ID", runtime, Some("POD")));
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_.slice/cri-containerd-ID.scope",
            of("containerd"),
            None,
        );
        check(
            "/kubepods.slice/kubepods-podPOD_.slice/crio-ID.scope",
            of("cri-o"),
            None,
        );
        check(
            "/kubepods.slice/kubepods-podPOD_.slice/crio-conmon-ID.scope",
            None,
            Some("crio-conmon-ID.scope"),
        );
        check("/kubepods/besteffort/podPOD/ID", of(""), None);
        check(
            "/system.slice/containerd.service/kubepods-burstable-podPOD_.slice:cri-containerd:ID",
            of("containerd"),
            Some("containerd.service"),
        );
        check("/kubepods/podshort/ID", Some(("ID", "", None)), None);
    }

    #[test]
    fn a_name_that_only_looks_like_a_container_is_none() {
        check("/docker-notes.scope", None, Some("docker-notes.scope"));
        check("/docker/buildx", None, None);
        check("/libpod-", None, None);
    }
}
