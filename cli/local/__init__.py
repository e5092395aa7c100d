"""The system on one machine: servers, processes, their supervisor and the demo."""
