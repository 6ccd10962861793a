// PageRank for `cargo xtask bench --peers`, as a program of Spark's RDDs: the same made-up web as
// the example's, links cached. Prints the seconds of each run, the first of which warms up.
import org.apache.spark.HashPartitioner

sc.setLogLevel("ERROR")
val nodes = sys.env("NODES").toLong
val edges = 8
val by_page = new HashPartitioner(8)

def mix(n: Long): Long = {
  var z = (n + 1) * 0x9E3779B97F4A7C15L
  z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L
  z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL
  z ^ (z >>> 31)
}

val links = sc.range(0, nodes, 1, 8).map { page =>
  val targets = Array.tabulate(edges) { edge =>
    val place = java.lang.Long.remainderUnsigned(mix(page * edges + edge), nodes)
    place * place / nodes
  }
  (page.toLong, targets)
}.partitionBy(by_page).cache()
links.count()

def run(iterations: Int): Unit = {
  val start = System.nanoTime
  var ranks = links.mapValues(_ => 1.0)
  for (_ <- 1 to iterations) {
    val contributions = links.join(ranks).flatMap { case (page, (targets, rank)) =>
      Iterator((page, 0.0)) ++ targets.iterator.map((_, rank / targets.length))
    }
    ranks = contributions.reduceByKey(by_page, _ + _).mapValues(0.15 + 0.85 * _)
  }
  val total = ranks.values.sum()
  println(f"\nranked $total%.3f in ${(System.nanoTime - start) / 1e9}%.3f")
}

run(1)
for (_ <- 1 to sys.env("RUNS").toInt) run(10)
System.exit(0)
