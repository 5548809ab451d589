// An ext_authz server that lets every request pass, without looking at it: what an Envoy filter costs at least.
package main

import (
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
)

type raw struct{}

func (raw) String() string { return "proto" }

func (raw) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = data
	return nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	answer := []byte{0x0a, 0x00} // CheckResponse with status OK
	server := grpc.NewServer(grpc.CustomCodec(raw{}), grpc.UnknownServiceHandler(
		func(_ any, stream grpc.ServerStream) error {
			var request []byte
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			return stream.SendMsg(&answer)
		}))
	log.Fatal(server.Serve(listener))
}
