// Embeds each line of its input, on the next server every time, and counts.
// Usage: round_robin HOST:PORT,HOST:PORT
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	pb "vecserve/v1"
)

func main() {
	// Where one DNS name has all the addresses, none of this: dial "dns:///NAME:PORT".
	var servers resolver.State
	for _, address := range strings.Split(os.Args[1], ",") {
		servers.Addresses = append(servers.Addresses, resolver.Address{Addr: address})
	}
	list := manual.NewBuilderWithScheme("list")
	list.InitialState(servers)

	channel, err := grpc.Dial("list:///", grpc.WithResolvers(list), grpc.WithInsecure(),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	client := pb.NewEmbeddingServiceClient(channel)
	lines := bufio.NewScanner(os.Stdin)
	for count := 1; lines.Scan(); count++ {
		item := &pb.Item{Content: &pb.Item_Text{Text: lines.Text()}}
		request := &pb.EmbedRequest{Model: "all-MiniLM-L6-v2", Items: []*pb.Item{item}}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		response, err := client.Embed(ctx, request)
		cancel()
		if err != nil || response.Results[0].GetError() != nil {
			log.Fatal(err, response)
		}
		fmt.Println("ok", count)
	}
}
