"""Reads with pyarrow and DuckDB what a job wrote, and compares it with what it read.

    formats.py FIXTURE FORMAT DIRECTORY     fails with the first row that differs
    formats.py --sum DIRECTORY              prints units and cents of Parquet files of `sales`
"""

import glob
import os
import sys

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq


def parts(directory, suffix):
    found = sorted(glob.glob(os.path.join(directory, "part-*" + suffix)))
    assert found, f"no part-*{suffix} in {os.listdir(directory)}"
    return found


def same(who, found, expected):
    found, expected = found.to_pylist(), expected.to_pylist()
    assert len(found) == len(expected), f"{who}: {len(found)} rows, {len(expected)} expected"
    for number, (one, other) in enumerate(zip(found, expected)):
        for name in other:
            assert one[name] == other[name], (
                f"{who}: row {number}, {name}: {one[name]!r}, {other[name]!r} expected")


def check(fixture, kind, directory):
    expected = pq.read_table(fixture).drop_columns(["bytes"])
    expected = expected.set_column(
        expected.column_names.index("color"), "color", expected["color"].cast(pa.string()))
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    if kind.startswith("parquet"):
        files = parts(directory, ".parquet")
        tables = [pq.read_table(file) for file in files]
        for table in tables:
            assert table.schema.names == expected.schema.names, table.schema
            for name in table.schema.names:
                one, other = table.schema.field(name).type, expected.schema.field(name).type
                assert one == other, f"{name} is {one}, {other} expected"
        same("pyarrow", pa.concat_tables(tables), expected)
        for file in files:
            for group in range(pq.ParquetFile(file).metadata.num_row_groups):
                column = pq.ParquetFile(file).metadata.row_group(group).column(2)
                assert column.statistics is not None and column.statistics.has_min_max
        found = connection.execute("select * from read_parquet(?)", [files])
        same("duckdb", arrow(found).cast(expected.schema), expected)
        # Their own readers leave out row groups by what the statistics say.
        some = connection.execute(
            "select count(*) from read_parquet(?) where a_i32 > 0", [files]).fetchone()
        assert some == (49,), some
        return
    suffix = {"json": ".jsonl"}.get(kind, "." + kind)
    files = parts(directory, suffix)
    types = {field.name: field.type for field in expected.schema}
    types["at_us"] = types["at_us"]
    if kind == "json":
        schema = pa.schema([
            pa.field(name, pa.string() if is_text(type) else type) for name, type in types.items()])
        options = pyarrow.json.ParseOptions(explicit_schema=schema)
        block = pyarrow.json.ReadOptions(block_size=1 << 20)
        tables = [pyarrow.json.read_json(file, block, options)
                  for file in files if os.path.getsize(file)]
        table = pa.concat_tables(tables)
        same("pyarrow", table, as_text(expected, is_text))
        return
    read = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True,
                                      quoted_strings_can_be_null=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    tables = []
    for file in files:
        codec = {"gz": "gzip", "zst": "zstd", "lz4": "lz4"}.get(file.rsplit(".", 1)[1])
        source = pa.OSFile(file)
        if codec:
            source = pa.CompressedInputStream(source, codec)
        data = source.read()
        if data:
            tables.append(pyarrow.csv.read_csv(
                pa.BufferReader(data), parse_options=parse, convert_options=read))
    same("pyarrow", pa.concat_tables(tables), expected)
    if kind != "csv.lz4":
        found = connection.execute(
            "select a_i64, a_f64, text, maybe, maybe_text from read_csv(?, header = true, "
            "quote = '\"', delim = ',', types = {'a_i64': 'bigint', 'a_f64': 'double', "
            "'maybe': 'integer'})",
            [[file for file in files if os.path.getsize(file)]])
        found = arrow(found)
        same("duckdb", found, expected.select(found.schema.names))


def arrow(result):
    table = result.to_arrow_table() if hasattr(result, "to_arrow_table") else result.arrow()
    return table.read_all() if hasattr(table, "read_all") else table


def is_text(type):
    return pa.types.is_date(type) or pa.types.is_timestamp(type) or pa.types.is_decimal(type)


def as_text(table, wanted):
    """Dates, times and decimals as a job writes them."""
    def text(value):
        if hasattr(value, "isoformat") and hasattr(value, "hour"):
            shown = value.isoformat().replace("+00:00", "")
            shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
            return shown + ("Z" if value.tzinfo else "")
        return value.isoformat() if hasattr(value, "isoformat") else f"{value:f}"

    for index, field in enumerate(table.schema):
        if wanted(field.type):
            column = pa.array([text(value.as_py()) for value in table[field.name]], pa.string())
            table = table.set_column(index, field.name, column)
    return table


if __name__ == "__main__":
    if sys.argv[1] == "--sum":
        where = os.path.join(sys.argv[2], "*.parquet")
        print(*duckdb.connect().execute(
            "select sum(units)::bigint, sum(cents)::bigint from read_parquet(?)", [where]).fetchone())
    else:
        check(*sys.argv[1:])
