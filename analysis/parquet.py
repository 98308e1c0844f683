"""Tables from the bytes of Parquet files, read in the calling thread alone."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(content: bytes) -> pd.DataFrame:
    """The whole table. Raises pyarrow's exceptions, OSError or ValueError where the bytes are no Parquet file.

    pandas.read_parquet has Arrow's threads read from a Python object. One that lets go of it while the interpreter
    ends aborts the process: "terminate called without an active exception".
    """
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False).to_pandas(use_threads=False)
