"""A token as a file.

For a library that takes its token only from a file, such as the SDKs of AWS, Google Cloud and Azure. Beside a program that you cannot
change, `cognomen fetch jwt --watch --write DIR --token NAME=AUDIENCE` keeps such a file.

Names: TokenFile
"""

import os
from pathlib import Path

from svid import JWTSource, TokenFile

with JWTSource() as source:
    with source.file("sts.amazonaws.com") as path:
        os.environ["AWS_WEB_IDENTITY_TOKEN_FILE"] = str(path)
        print(oct(path.stat().st_mode & 0o777), len(path.read_text()))
    assert not path.exists()

    file: TokenFile = source.file("api://AzureADTokenExchange")  # until the source is closed
    os.environ["AZURE_FEDERATED_TOKEN_FILE"] = str(file)
    print(len(Path(file).read_text()))

print(file.path.exists())
