"""The jobs of `cargo xtask bench --peers` for Spark: spark_job.py wordcount INPUT | sort INPUT OUTPUT.

DataFrames, so that the work is done by Spark's own engine and not by Python; two threads.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, split

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "8")
    .config("spark.driver.memory", "4g")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
lines = spark.read.text(sys.argv[2])
if sys.argv[1] == "wordcount":
    words = lines.select(explode(split(col("value"), r"\s+")).alias("word"))
    counts = words.filter(col("word") != "").groupBy("word").count()
    for row in counts.orderBy(col("count").desc(), col("word")).limit(20).collect():
        print(f"{row['count']}\t{row['word']}")
else:
    lines.sort("value").write.text(sys.argv[3])
spark.stop()
