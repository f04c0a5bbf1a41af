package relay

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// accessLogMethod is where Envoy streams the access logs that Config.Listener adds. They stay in the agent.
const accessLogMethod = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

func accessLog(down grpc.ServerStream, take func(message []byte) error) error {
	for {
		m := &frame{}
		err := down.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(m.data); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}
