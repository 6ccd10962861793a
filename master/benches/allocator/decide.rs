//! The decisions of the worst pass alone: whose every executor is, and which worker gives it.
//!
//! All cores are free and everybody wants more than there is, laid out in several ways. What is
//! measured is what the master decides, without its books and orders.

use crate::{CORES, GIB, TENANTS, report, tenant};
use offshoot_master::free::{Free, Seat};
use offshoot_master::placement::{Grant, Request, Selection, Sharing, plan_in_order};
use offshoot_master::share::{Shares, Unit};
use offshoot_proto::id::AppId;
use offshoot_proto::tenant::{TenantPolicy, TenantRules};
use offshoot_proto::waiting::Size;
use std::time::Instant;

/// Passes of each layout.
const SAMPLES: usize = 20;

/// A way in which workers, tenants and applications differ.
struct Layout {
    name: &'static str,
    tenants: usize,
    /// By number, the size of a worker.
    worker: fn(u32) -> Size,
    /// By number, and for a number of workers, the rules of a tenant.
    rules: fn(usize, u32) -> TenantRules,
    /// By number, what an application takes at a time, and how many of these it has.
    app: fn(usize) -> (Unit, u32),
}

const ALIKE: Layout = Layout {
    name: "all alike",
    tenants: TENANTS,
    worker: |_| size(CORES, CORES.into()),
    rules: |index, _| weight(1 + index as u32 % 5),
    app: |_| (fixed(1, 1), 0),
};

const LAYOUTS: [Layout; 9] = [
    ALIKE,
    Layout {
        name: "workers of uneven sizes",
        worker: |index| size(1 + index * 7 % 19, 4 + u64::from(index) * 11 % 61),
        ..ALIKE
    },
    Layout {
        name: "executors of 1 to 3 cores, weights to 1000",
        rules: |index, _| weight([1, 1000, 30, 7][index % 4]),
        app: |index| (fixed(1 + index as u32 % 3, 1 + index as u64 % 4), 0),
        ..ALIKE
    },
    Layout {
        name: "every second of any size",
        app: |index| (Unit { elastic: index % 40 < 20, ..fixed(1, 2) }, 0),
        ..ALIKE
    },
    Layout {
        name: "a quota of cores for each tenant",
        rules: |index, workers| TenantRules {
            cores_max: Some(workers / 8 + workers / 80 * (index as u32 % 50)),
            ..weight(1 + index as u32 % 5)
        },
        ..ALIKE
    },
    Layout {
        name: "quotas of memory, every second of any size",
        rules: |index, workers| TenantRules {
            memory_bytes_max: Some(u64::from(workers) / 8 * GIB),
            ..weight(1 + index as u32 % 5)
        },
        app: |index| (Unit { elastic: index % 100 < 50, ..fixed(1, 1) }, 0),
        ..ALIKE
    },
    Layout {
        name: "some have much, some are guaranteed it",
        rules: |index, workers| TenantRules {
            cores_guaranteed: if index % 3 == 0 { workers / 4 } else { 0 },
            ..weight(1 + index as u32 % 5)
        },
        app: |index| (fixed(1, 1), index as u32 * 37 % 200),
        ..ALIKE
    },
    Layout {
        name: "the oldest first",
        rules: |_, _| TenantRules { policy: TenantPolicy::Fifo, ..weight(1) },
        ..ALIKE
    },
    Layout { name: "a tenant for each application", tenants: 1000, ..ALIKE },
];

/// Prints what the decisions of a pass cost.
pub(crate) fn run(workers: usize) {
    for layout in &LAYOUTS {
        let (mut whose, mut where_from, mut both) = (Vec::new(), Vec::new(), Vec::new());
        let mut granted = 0;
        for _ in 0..SAMPLES {
            let mut pass = Pass::new(layout, workers);
            let started = Instant::now();
            pass.decide();
            both.push(started.elapsed());
            whose.push(pass.whose);
            where_from.push(both[both.len() - 1].saturating_sub(pass.whose));
            granted = pass.granted;
        }
        println!("deciding on {granted} executors, {}:", layout.name);
        report("  whose", whose);
        report("  from which worker", where_from);
        report("  in all", both);
    }
}

/// One pass.
struct Pass {
    shares: Shares,
    free: Free,
    units: Vec<Unit>,
    granted: usize,
    whose: std::time::Duration,
}

impl Pass {
    fn new(layout: &Layout, workers: usize) -> Self {
        let (mut shares, mut free) = (Shares::default(), Free::new(Selection::default()));
        let workers = workers as u32;
        for seat in (0..workers).map(Seat) {
            free.join(seat, seat.0.checked_sub(1).map(Seat), None);
            free.set(seat, Some((layout.worker)(seat.0)));
        }
        for index in 0..layout.tenants {
            shares.set_rules(&tenant(index), (layout.rules)(index, workers));
        }
        let (mut units, mut total) = (Vec::new(), free.total());
        for index in 0..workers as usize / 10 {
            let (unit, has) = (layout.app)(index);
            let id = AppId(index as u64);
            shares.add_app(id, &tenant(index % layout.tenants), unit);
            for _ in 0..has {
                shares.hold(id, 1, unit.size);
                total.cores += unit.size.cores;
                total.memory_bytes += unit.size.memory_bytes;
            }
            shares.set_wants(id, u32::MAX);
            units.push(unit);
        }
        shares.set_total(total);
        Self { shares, free, units, granted: 0, whose: Default::default() }
    }

    fn decide(&mut self) {
        let started = Instant::now();
        let allotted =
            self.shares.allot(self.free.total(), |_, size| self.free.fits(size, |_| true));
        self.whose = started.elapsed();
        for allotment in allotted {
            let unit = self.units[allotment.app.0 as usize];
            let request = Request {
                executor_cores: (!unit.elastic).then_some(unit.size.cores),
                task_cores: 1,
                executor_memory_bytes: unit.size.memory_bytes,
                cores_left: allotment.units.saturating_mul(unit.size.cores),
                executors_left: allotment.units,
            };
            let grants = plan_in_order(&request, Sharing::Spread, self.free.offers(request.unit()));
            self.granted += grants.len();
            self.take(&grants, unit.size.memory_bytes);
        }
    }

    fn take(&mut self, grants: &[Grant<Seat>], memory_bytes: u64) {
        let on_one = grants.chunk_by(|a, b| a.worker == b.worker);
        let left = on_one.map(|grants| {
            let mut left = self.free.of(grants[0].worker).expect("it gave something");
            for grant in grants {
                left.cores -= grant.cores;
                left.memory_bytes -= memory_bytes;
            }
            (grants[0].worker, Some(left))
        });
        let left: Vec<_> = left.collect();
        self.free.set_all(left);
    }
}

const fn size(cores: u32, gib: u64) -> Size {
    Size { cores, memory_bytes: gib * GIB }
}

const fn fixed(cores: u32, gib: u64) -> Unit {
    Unit { size: size(cores, gib), elastic: false }
}

fn weight(weight: u32) -> TenantRules {
    TenantRules { weight, ..TenantRules::default() }
}
