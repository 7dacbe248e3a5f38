// Package deploytest holds what is in the folder deploy against the program: alert rules
// and the dashboard against the metrics there are, the service unit and the container
// file against systemd and the command line. It has tests only.
package deploytest
