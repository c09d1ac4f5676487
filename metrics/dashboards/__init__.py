"""The dashboards: `panels` says what they show, Grafana's and Prometheus's are made from it."""
