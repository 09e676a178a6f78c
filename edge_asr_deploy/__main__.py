"""`python -m edge_asr_deploy`: the same as `edge-deploy`, where no script is on the path."""

from edge_asr_deploy.cli import main

main()
