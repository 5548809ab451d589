//! Huge pages for memory that is read here and there. This file and `crate::cores` are the only ones with `unsafe` code.

use std::mem::MaybeUninit;

/// Bytes of a huge page on the machines that we know; where they are larger, the ends stay on small ones.
const HUGE_PAGE: usize = 2 << 20;

/// How much room beyond `count` elements it takes for all of them to lie on huge pages: up to one page before the
/// first and one behind the last. Nothing for those that do not fill one.
pub(super) const fn margin<T>(count: usize) -> usize {
    let page = HUGE_PAGE / size_of::<T>();
    if !cfg!(target_os = "linux") || count < page {
        return 0;
    }
    2 * page
}

/// Asks the system to back `memory` with huge pages, so far as it has some to spare. Returns how many elements to leave
/// out for the `count` after them to begin with a page: none where the allocator's addresses do not allow it.
///
/// Argon2 reads blocks all over its memory, and with small pages the processor must first find out where
/// each of them lies: huge ones make a hash some 7 % quicker. Nothing depends on the system's consent.
#[cfg(target_os = "linux")]
pub(super) fn ask_for<T>(memory: &mut [MaybeUninit<T>], count: usize) -> usize {
    advise(memory, rustix::mm::Advice::LinuxHugepage);
    let before = memory.as_ptr().align_offset(HUGE_PAGE);
    let fits = before <= memory.len().saturating_sub(count);
    if fits && count * size_of::<T>() >= HUGE_PAGE {
        before
    } else {
        0
    }
}

/// Bars huge pages there before the memory goes to other use: a small thing on a huge page holds all of it. Linux
/// has no advice that leads back to its default.
#[cfg(target_os = "linux")]
pub(super) fn renounce<T>(memory: &mut [MaybeUninit<T>]) {
    advise(memory, rustix::mm::Advice::LinuxNoHugepage);
}

/// Gives the advice for the pages that lie in `memory` as a whole.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "no crate we would trust gives this advice about memory that it did not map itself"
)]
fn advise<T>(memory: &mut [MaybeUninit<T>], advice: rustix::mm::Advice) {
    let page = rustix::param::page_size();
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.align_offset(page);
    let length = size_of_val(memory).saturating_sub(before) / page * page;
    if length > 0 {
        let first = start.wrapping_add(before).cast();
        // SAFETY: the pages from `first` on lie in `memory`, which is borrowed for writing; these two kinds of
        // advice change neither what is in them nor whether they are mapped.
        let advised = unsafe { rustix::mm::madvise(first, length, advice) };
        if let Err(error) = advised {
            tracing::debug!(%error, "advice about huge pages was refused");
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn ask_for<T>(_: &mut [MaybeUninit<T>], _: usize) -> usize {
    0
}

#[cfg(not(target_os = "linux"))]
pub(super) fn renounce<T>(_: &mut [MaybeUninit<T>]) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// What the kernel notes about the mapping around `address` (proc_pid_smaps(5)): `hg` or `nh`.
    fn advice_at(address: usize) -> Option<&'static str> {
        let mappings = fs::read_to_string("/proc/self/smaps").expect("procfs");
        let mut inside = false;
        for line in mappings.lines() {
            let range = line.split_whitespace().next().and_then(|range| {
                let (start, end) = range.split_once('-')?;
                let number = |text| usize::from_str_radix(text, 16).ok();
                Some(number(start)?..number(end)?)
            });
            inside = range.map_or(inside, |range| range.contains(&address));
            if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
                return ["hg", "nh"]
                    .into_iter()
                    .find(|flag| flags.split_whitespace().any(|other| other == *flag));
            }
        }
        panic!("nothing is mapped at {address:x}")
    }

    #[test]
    fn the_system_hears_what_is_asked_and_renounced() {
        let has_huge_pages = Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let mut memory = Vec::<[u8; 1024]>::with_capacity(8 * 1024);
        let middle = memory.as_ptr().addr() + memory.capacity() * 512;
        ask_for(memory.spare_capacity_mut(), 0);
        assert_eq!(advice_at(middle), has_huge_pages.then_some("hg"));
        renounce(memory.spare_capacity_mut());
        assert_eq!(advice_at(middle), has_huge_pages.then_some("nh"));
    }

    #[test]
    fn what_fills_huge_pages_begins_with_one() {
        #[repr(align(4096))]
        struct Page {
            _bytes: [u8; 4096],
        }

        for count in [HUGE_PAGE / size_of::<Page>(), 5_000] {
            let mut memory = Vec::<Page>::with_capacity(count + margin::<Page>(count));
            let spare = memory.spare_capacity_mut();
            let skipped = ask_for(spare, count);
            assert!(spare[skipped].as_ptr().addr().is_multiple_of(HUGE_PAGE));
            assert!(spare[skipped..].len() >= count);
        }
    }

    #[test]
    fn what_is_smaller_than_a_page_is_left_alone() {
        let mut memory = Vec::<u8>::with_capacity(100);
        assert_eq!(ask_for(memory.spare_capacity_mut(), 100), 0);
        renounce(memory.spare_capacity_mut());
    }
}
