"""What every Winnow process needs and no service owns.

Never imports a service: the layers are cli > services > runtime > winnow (gen).
"""

import os

# Read by gRPC when it is first imported. Its fork handlers are for programs that
# go on using gRPC in a forked child; ours only start others (PostgreSQL, services),
# and a handler that runs in between can break those before they begin.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
