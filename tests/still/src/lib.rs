//! Runs a test on a thread of its own in which little is left to chance: the order of hash maps, random numbers and the wall
//! clock are the same in each run. What stays to chance is what tokio draws by itself: the branch that `select!` polls first,
//! and which of two tasks that are due at the same moment goes first.
//!
//! All of these come from two functions of the C library, `getrandom` and `clock_gettime`. A program that is linked with this
//! crate has its own. On other threads they ask the kernel, as ever.

use std::{
    cell::Cell,
    ffi::{c_int, c_uint, c_void},
    time::Duration,
};

use tokio::{runtime::Builder, time::Instant};

/// What the wall clock of a run shows at its start: 2026-01-01T00:00:00Z.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Plays a test with tokio's clock paused, which goes on by itself when everything waits, and with the wall clock that follows
/// it. With the same seed the random numbers and hash maps are the same each time.
///
/// # Panics
/// When the test does.
pub fn run<T: Send>(seed: u64, test: impl AsyncFnOnce() -> T + Send) -> T {
    let play = || {
        SEED.set(Some(seed));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime needs nothing that could fail").block_on(async {
            START.set(Some(Instant::now()));
            let result = test().await;
            START.set(None);
            result
        })
    };
    std::thread::scope(|scope| match scope.spawn(play).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The next number of the thread's series (splitmix64).
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// `getrandom(2)`: what this thread's seed gives, or else the kernel.
///
/// # Safety
/// As of the C library's function: `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let Some(mut seed) = SEED.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the caller promises what the kernel asks for.
        let written = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(written).unwrap_or(-1);
    };
    // SAFETY: the caller promises that there is room.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for part in bytes.chunks_mut(8) {
        let number = next(&mut seed).to_le_bytes();
        part.copy_from_slice(&number[..part.len()]);
    }
    let _ = SEED.try_with(|cell| cell.set(Some(seed)));
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// `clock_gettime(2)`: the wall clock follows tokio's in a run; all else is the kernel's.
///
/// # Safety
/// As of the C library's function: `time` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let start = START.try_with(Cell::get).ok().flatten().filter(|_| clock == libc::CLOCK_REALTIME);
    let Some(start) = start else {
        // SAFETY: the caller promises what the kernel asks for.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return c_int::try_from(result).unwrap_or(-1);
    };
    let now = EPOCH + start.elapsed();
    // SAFETY: the caller promises that it may be written.
    unsafe {
        (*time).tv_sec = libc::time_t::try_from(now.as_secs()).unwrap_or(libc::time_t::MAX);
        (*time).tv_nsec = now.subsec_nanos().into();
    }
    0
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::SystemTime};

    use super::*;

    async fn play() -> (Vec<i32>, Duration, Duration) {
        let map: HashMap<_, _> = (0..50).map(|number| (number, ())).collect();
        let wall = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let begins = wall();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        (map.into_keys().collect(), begins, wall())
    }

    #[test]
    fn a_run_is_the_same_each_time_and_an_hour_passes_on_both_clocks() {
        let one = run(7, play);
        assert_eq!(one, run(7, play));
        assert_ne!(one.0, run(8, play).0, "another seed, another order");
        assert_eq!(one.1, EPOCH);
        assert_eq!(one.2, EPOCH + Duration::from_secs(3600));
    }

    #[test]
    fn other_threads_have_the_wall_clock_of_the_machine() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        assert!(now > EPOCH + Duration::from_secs(1) || now < EPOCH, "{now:?}");
    }
}
