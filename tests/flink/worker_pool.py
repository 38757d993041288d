"""A pool of Beam workers that listens on one address: ``worker_pool.py HOST PORT``.

Beam's own program listens on all addresses, so two pools could not share a port on one machine.
"""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

logging.basicConfig(level=logging.INFO)
server = grpc.server(ThreadPoolExecutor())
beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
    BeamFnExternalWorkerPoolServicer(use_process=True), server
)
server.add_insecure_port(":".join(sys.argv[1:]))
server.start()
server.wait_for_termination()
