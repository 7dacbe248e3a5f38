package main

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestStopDoesNotWaitForUnusedConnections: a connection that somebody opened and never
// used holds no stop up; a request that runs is waited for.
func TestStopDoesNotWaitForUnusedConnections(t *testing.T) {
	running, finish := make(chan struct{}), make(chan struct{})
	opened := make(chan struct{}, 8)
	s := quickStop(&http.Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(running); <-finish }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				opened <- struct{}{}
			}
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	unused, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unused.Close() }()
	<-opened
	got := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + l.Addr().String())
		if err == nil {
			err = resp.Body.Close()
		}
		got <- err
	}()
	<-running
	stopped := make(chan error, 1)
	begin := time.Now()
	go func() { stopped <- s.Shutdown(context.Background()) }()
	if _, err := unused.Read(make([]byte, 1)); err == nil {
		t.Fatal("the unused connection was answered")
	}
	if passed := time.Since(begin); passed > 4*time.Second {
		t.Errorf("the unused connection was closed after %v", passed)
	}
	select {
	case <-stopped:
		t.Fatal("the request that runs was not waited for")
	default:
	}
	close(finish)
	if err := <-got; err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	<-served
}
