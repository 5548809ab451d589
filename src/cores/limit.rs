//! The CPU time that control groups grant (cgroups(7)): what a CPU limit in Kubernetes comes to.

use std::{fs, path::Path, str::FromStr as _};

use rustix::thread::sched_getaffinity;

/// Where the control groups are mounted, by convention (file-hierarchy(7)).
const MOUNTED: &str = "/sys/fs/cgroup";

/// How many cores' worth of CPU time this process may use by the control groups that it is in; `None` when they set no
/// limit, or none below the cores that it may run on. Unlike [`count`](super::count) it may be less than one core, or a
/// fraction.
pub fn limit() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limit = lowest(&groups, Path::new(MOUNTED))?;
    let has_all = sched_getaffinity(None).is_ok_and(|cores| limit >= f64::from(cores.count()));
    (!has_all).then_some(limit)
}

/// The lowest limit of the groups in this list, each with those above it.
fn lowest(groups: &str, mounted: &Path) -> Option<f64> {
    groups
        .lines()
        .flat_map(|line| limits(line, mounted))
        .reduce(f64::min)
}

/// The limits along one line of the list: `number:controllers:/path`.
fn limits(line: &str, mounted: &Path) -> Vec<f64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    // Version 2 has one tree for all controllers, which it does not name.
    let (root, of): (_, fn(&Path) -> Option<f64>) = if controllers.is_empty() {
        (mounted.to_owned(), version_2)
    } else if controllers.split(',').any(|name| name == "cpu") {
        (mounted.join("cpu"), version_1)
    } else {
        return Vec::new();
    };
    // Within a container the path may be the one outside: then only the root is there, and it is the container's.
    Path::new(path)
        .ancestors()
        .filter_map(|group| of(&root.join(group.strip_prefix("/").ok()?)))
        .collect()
}

/// `cpu.max`: the quota, or `max`, and the period, in microseconds.
fn version_2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    cores(quota.parse().ok()?, period.parse().ok()?)
}

/// A file for each; the quota is -1 for none.
fn version_1(group: &Path) -> Option<f64> {
    let read = |name| u32::from_str(fs::read_to_string(group.join(name)).ok()?.trim()).ok();
    cores(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn cores(quota: u32, period: u32) -> Option<f64> {
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
    fn version_1_has_a_tree_for_the_controller() {
        let groups = "9:name=systemd:/\n4:memory:/a\n3:cpu,cpuacct:/a\n";
        let files = [
            ("cpu/cpu.cfs_quota_us", "-1\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("cpu/a/cpu.cfs_quota_us", "250000\n"),
            ("cpu/a/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(found(groups, &files), Some(2.5));
        assert_eq!(found("4:memory:/a\n", &files), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
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
