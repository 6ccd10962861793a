//! Ranks pages: `pagerank NODES EDGES_PER_NODE ITERATIONS PARTITIONS [OUTPUT]`.
//!
//! The web is made up. Its links are partitioned by page and kept. Ranks and contributions have the
//! same partitioner, so that an iteration is one shuffle: links and ranks are joined where they
//! are, and the contributions move to the pages that they are for. Every few iterations the ranks
//! forget how they came about, so that the shuffle files of these iterations go. Prints the pages
//! of the highest rank, and the sum of all ranks; saves all of them, where it is told a directory.
#![forbid(unsafe_code)]

use example::{mix, positive};
use offshoot::prelude::*;
use std::iter;
use std::process::ExitCode;

const USAGE: &str = "pagerank NODES EDGES_PER_NODE ITERATIONS PARTITIONS (how many pages, \
     to how many each links, how often ranks flow, over how many partitions; all but the third \
     at least 1)";

/// How much of a page's rank flows along its links.
const DAMPING: f64 = 0.85;

/// Iterations that are computed, and kept, together: the shuffle files of so many are there at
/// once.
const LINEAGE: u32 = 10;

/// How many pages are printed.
const PRINTED: usize = 5;

fn main() -> ExitCode {
    example::main(USAGE, Web::parse, |web| -> Result<(), Error> {
        let (best, total) = web.rank()?;
        for (rank, page) in best {
            println!("{page}\t{rank:.6}");
        }
        println!("total\t{total:.3}");
        Ok(())
    })
}

/// What is ranked.
#[derive(Clone, Debug, PartialEq)]
struct Web {
    nodes: u64,
    edges: u64,
    iterations: u32,
    partitions: u32,
    /// A directory for all ranks.
    output: Option<String>,
}

// === impl Web ===

impl Web {
    fn parse(arguments: &[String]) -> Option<Self> {
        let [_, nodes, edges, iterations, partitions, output @ ..] = arguments else {
            return None;
        };
        let output = match output {
            [] => None,
            [output] => Some(output.clone()),
            _ => return None,
        };
        Some(Self {
            nodes: positive(nodes)?,
            edges: positive(edges)?,
            iterations: iterations.parse().ok()?,
            partitions: positive(partitions)?,
            output,
        })
    }

    /// The best pages with their ranks, and the sum of all ranks.
    fn rank(&self) -> Result<(Vec<(f64, u64)>, f64), Error> {
        let by_page = Partitioner::hash(self.partitions);
        let (nodes, edges) = (self.nodes, self.edges);
        let links = Context::new()
            .range(0..nodes, self.partitions)
            .map(move |page| (page, links_of(page, nodes, edges).collect::<Vec<u64>>()))
            .partition_by(&by_page)
            .cache();
        let mut ranks = links.map_values(|_| 1.0);
        for iteration in 1..=self.iterations {
            let contributions = ranks.join(&links).flat_map(|(page, (rank, targets))| {
                let share = rank / targets.len() as f64;
                // Nothing for itself: a page that nobody links to has a rank, too.
                iter::once((page, 0.0)).chain(targets.into_iter().map(move |to| (to, share)))
            });
            ranks = contributions
                .reduce_by_key_with_partitions(self.partitions, |left, right| left + right)
                .map_values(|flowed| 1.0 - DAMPING + DAMPING * flowed);
            if iteration % LINEAGE == 0 {
                ranks = ranks.local_checkpoint()?;
            }
        }
        let total = ranks.values().sum()?;
        if let Some(output) = &self.output {
            ranks.map(|(page, rank)| format!("{page}\t{rank}")).save_as_text_file(output)?;
        }
        // Every partition sends its own best.
        let best =
            ranks.map_partitions(|ranks| best_of(ranks.map(|(page, rank)| (rank, page)).collect()));
        Ok((best_of(best.collect()?), total))
    }
}

/// The pages that a page links to: low numbers are linked to far more often.
fn links_of(page: u64, nodes: u64, edges: u64) -> impl Iterator<Item = u64> {
    (0..edges).map(move |edge| {
        let place = mix(page * edges + edge) % nodes;
        place * place / nodes
    })
}

/// The highest ranks first, of equal ones the lower number.
fn best_of(mut ranks: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    ranks.sort_by(|left, right| right.0.total_cmp(&left.0).then(left.1.cmp(&right.1)));
    ranks.truncate(PRINTED);
    ranks
}

#[cfg(test)]
mod tests {
    use super::{Web, best_of, links_of};

    fn parse(arguments: &str) -> Option<Web> {
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        Web::parse(&arguments)
    }

    #[test]
    fn arguments() {
        let web = Web { nodes: 10, edges: 3, iterations: 0, partitions: 2, output: None };
        assert_eq!(parse("pagerank 10 3 0 2"), Some(web.clone()));
        let saved = Web { output: Some("out".into()), ..web };
        assert_eq!(parse("pagerank 10 3 0 2 out"), Some(saved));
        for wrong in ["pagerank", "pagerank 10 3 1", "pagerank 0 1 1 1", "pagerank 1 1 1 x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn links_stay_in_the_web_and_favour_low_numbers() {
        let links: Vec<u64> = (0..1000).flat_map(|page| links_of(page, 1000, 10)).collect();
        assert_eq!(links.len(), 10_000);
        assert!(links.iter().all(|page| *page < 1000));
        assert!(links.iter().filter(|page| **page < 250).count() > 4500);
    }

    #[test]
    fn the_best_come_first() {
        let best = best_of((0..9).map(|page| (f64::from(page as u32 / 2), page)).collect());
        assert_eq!(best, [(4.0, 8), (3.0, 6), (3.0, 7), (2.0, 4), (2.0, 5)]);
    }
}
