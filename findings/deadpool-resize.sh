#!/usr/bin/env bash
# deadpool 0.13.1: `Pool::resize` to a smaller size does not limit the next burst.
#
# `resize` takes permits back only while more objects exist than the new size allows. A pool that was built for 16 and has made 3
# objects so far keeps all its 16 permits when it is resized to 3. It then makes 13 more objects and hands out 16 at once, while
# `status` says `max_size: 3`. The bound holds from the first time on that objects above it were given back.
#
# Output seen:
#   resized:     Status { max_size: 3, size: 3, available: 3, waiting: 0 }
#   first burst: 16 objects at once, Status { max_size: 3, size: 16, available: 0, waiting: 0 }
#   next burst:  3 objects at once, Status { max_size: 3, size: 3, available: 0, waiting: 0 }
. "$(dirname "$0")/lib.sh"
rust_package <<'EOF'
deadpool = { version = "=0.13.1", default-features = false, features = ["managed"] }
futures-executor = "=0.3.34"
EOF
cat > src/main.rs <<'EOF'
use std::convert::Infallible;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult, Timeouts};

struct Units;

impl Manager for Units {
    type Type = ();
    type Error = Infallible;

    async fn create(&self) -> Result<(), Infallible> {
        Ok(())
    }

    async fn recycle(&self, _: &mut (), _: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

/// Takes objects until the pool refuses one, at most 100.
async fn burst(pool: &Pool<Units>) -> Vec<Object<Units>> {
    let at_once = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
    let mut taken = Vec::new();
    while taken.len() < 100 {
        match pool.timeout_get(&at_once).await {
            Ok(object) => taken.push(object),
            Err(_) => break,
        }
    }
    taken
}

fn main() {
    futures_executor::block_on(async {
        let pool = Pool::builder(Units).max_size(16).build().unwrap();
        let used = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
        drop(used);
        pool.resize(3);
        println!("resized:     {:?}", pool.status());
        for name in ["first burst:", "next burst: "] {
            let taken = burst(&pool).await;
            println!("{name} {} objects at once, {:?}", taken.len(), pool.status());
        }
    });
}
EOF
cargo run --quiet | tee seen
grep -q '^first burst: 16 objects at once, Status { max_size: 3,' seen
grep -q '^next burst:  3 objects' seen
