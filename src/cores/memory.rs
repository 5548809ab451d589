//! How much memory the process may use: that of the machine, or less by the control groups (cgroups(7)); in Kubernetes,
//! `resources.limits.memory`.

use std::{fs, path::Path};

/// Where the control groups are mounted, by convention (file-hierarchy(7)).
const MOUNTED: &str = "/sys/fs/cgroup";

/// How many bytes of memory the process may use; `None` when that cannot be found out.
pub fn memory_limit() -> Option<usize> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = [lowest(&groups, Path::new(MOUNTED)), total(&machine)];
    let bytes = bytes.into_iter().flatten().min()?;
    Some(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// The lowest limit of the process's groups and those above them. `groups` is `/proc/self/cgroup`: `0::/path` for version 2,
/// `4:memory:/path` for version 1.
fn lowest(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (folder, file) = match parts.next() {
            Some("") => (mounted.to_owned(), "memory.max"),
            Some(of) if of.split(',').any(|name| name == "memory") => {
                (mounted.join("memory"), "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = Path::new(parts.next().unwrap_or("/"));
        // Within a container the path may be the one outside: then only the root is there, and it is the container's.
        let groups = path
            .ancestors()
            .filter_map(|group| group.strip_prefix("/").ok());
        groups.map(|group| folder.join(group).join(file)).collect()
    });
    // Version 1 has a number beyond all memory for no limit, version 2 the word `max`.
    let read = |file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    limits.filter_map(read).filter(|bytes| *bytes > 0).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        lowest(groups, root.path())
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_those_above_it_holds() {
        let files = [
            ("memory.max", "max\n"),
            ("pod/memory.max", "536870912\n"),
            ("pod/container/memory.max", "268435456\n"),
            ("other/memory.max", "1000\n"),
        ];
        assert_eq!(found("0::/pod/container\n", &files), Some(256 << 20));
        assert_eq!(found("0::/pod\n", &files), Some(512 << 20));
        assert_eq!(found("0::/\n", &files), None);
        assert_eq!(
            found("0::/../elsewhere\n", &[("memory.max", "1024")]),
            Some(1024)
        );
    }

    #[test]
    fn limits_of_version_1_are_read_as_well() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/memory.limit_in_bytes", "268435456\n"),
        ];
        let groups = "5:cpu,cpuacct:/docker\n4:memory:/docker\n";
        assert_eq!(found(groups, &files), Some(256 << 20));
    }

    #[test]
    fn an_unreadable_limit_is_ignored() {
        for text in ["", "max", "0", "-5", "one", "1.5"] {
            assert_eq!(found("0::/\n", &[("memory.max", text)]), None, "{text}");
        }
        for groups in ["", "nonsense", "0:cpu", ":::", "0::"] {
            assert_eq!(found(groups, &[]), None, "{groups}");
        }
        assert_eq!(
            total("MemTotal:       16000 kB\nMemFree: 1 kB\n"),
            Some(16_384_000)
        );
        for text in [
            "",
            "MemTotal:",
            "MemTotal: x kB",
            "MemTotal: 99999999999999999999 kB",
        ] {
            assert_eq!(total(text), None, "{text}");
        }
    }
}
