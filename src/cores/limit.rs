//! The CPU limit of the control groups (cgroups(7), version 2): in Kubernetes, `resources.limits.cpu`.

use std::{fs, path::Path};

use rustix::thread::sched_getaffinity;

/// Where the control groups are mounted, by convention (file-hierarchy(7)).
const MOUNTED: &str = "/sys/fs/cgroup";

/// How many cores' worth of CPU time this process may use by its control groups; `None` when they set no limit, or none
/// below the cores that it may run on. Unlike [`count`](super::count) it may be a fraction, and less than one core.
///
/// Version 1 of the control groups is not read: there hashing does not pause (decision 0703).
pub fn cpu_limit() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = lowest(&groups, Path::new(MOUNTED))?;
    let has_all = sched_getaffinity(None).is_ok_and(|cores| limit >= f64::from(cores.count()));
    (!has_all).then_some(limit)
}

/// The lowest limit of the process's group and those above it. `groups` is `/proc/self/cgroup`, whose line for version 2
/// is `0::/path`.
fn lowest(groups: &str, mounted: &Path) -> Option<f64> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Within a container the path may be the one outside: then only the root is there, and it is the container's.
    Path::new(path)
        .ancestors()
        .filter_map(|group| cpu_max(&mounted.join(group.strip_prefix("/").ok()?)))
        .reduce(f64::min)
}

/// `cpu.max`: the quota, or `max`, and the period, in microseconds.
fn cpu_max(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of control groups with these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn found(groups: &str, files: &[(&str, &str)]) -> Option<f64> {
        lowest(groups, tree(files).path())
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_those_above_it_holds() {
        let files = [
            ("cpu.max", "max 100000\n"),
            ("pod/cpu.max", "150000 100000\n"),
            ("pod/container/cpu.max", "400000 200000\n"),
            ("other/cpu.max", "1000 100000\n"),
        ];
        assert_eq!(found("0::/pod/container\n", &files), Some(1.5));
        assert_eq!(found("0::/pod\n", &files), Some(1.5));
        assert_eq!(found("0::/\n", &files), None);
    }

    #[test]
    fn a_container_that_sees_a_path_from_outside_finds_its_own_group_at_the_root() {
        assert_eq!(
            found("0::/../../elsewhere\n", &[("cpu.max", "50000 100000")]),
            Some(0.5)
        );
    }

    #[test]
    fn an_unreadable_limit_is_ignored() {
        for text in [
            "",
            "max",
            "0 100000",
            "100000 0",
            "one two",
            "inf 1",
            "-5 100000",
        ] {
            assert_eq!(found("0::/\n", &[("cpu.max", text)]), None, "{text}");
        }
        assert_eq!(found("", &[]), None);
        assert_eq!(found("nonsense\n0:cpu\n", &[]), None);
    }
}
