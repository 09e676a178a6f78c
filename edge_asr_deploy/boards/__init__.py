"""Run commands of `edge-deploy` on boards over SSH: copy what they need, bring their results back."""
