package main

// The part to copy: embeds through a stream, sends again what has no answer, and reads the vectors.

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "vecserve/v1"
)

type requests map[string]*pb.EmbedStreamRequest // by item id
type results map[string]*pb.ItemResult

// embed answers all messages, each of one item. What has no answer is sent again while the server
// is away, for about a minute; embedding twice does no harm.
func embed(client pb.EmbeddingServiceClient, messages []*pb.EmbedStreamRequest) (results, error) {
	waiting, answered := make(requests), make(results)
	for _, message := range messages {
		waiting[message.Items[0].ItemId] = message
	}
	for try := 1; ; try++ {
		err := exchange(client, waiting, answered)
		for id := range answered {
			delete(waiting, id)
		}
		if len(waiting) == 0 {
			return answered, nil
		}
		if status.Code(err) != codes.Unavailable || try == 15 {
			return answered, err
		}
		pause := time.Duration(try) * time.Second / 2
		log.Printf("unavailable: %s; again in %s", status.Convert(err).Message(), pause)
		time.Sleep(pause)
	}
}

// exchange runs one stream and adds its answers; it returns why it ended.
func exchange(client pb.EmbeddingServiceClient, waiting requests, answered results) error {
	stream, err := client.EmbedStream(context.Background())
	if err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() {
		for _, request := range waiting {
			stream.Send(request) // blocks while the server holds us back; Recv says what fails
		}
		stream.CloseSend()
		close(sent)
	}()
	for {
		response, err := stream.Recv()
		if err != nil {
			<-sent
			if err == io.EOF {
				err = status.Error(codes.Unavailable, "a model is being loaded")
			}
			return err
		}
		for _, result := range response.Results {
			// In band, it means that the model is still being loaded: not an answer yet.
			if codes.Code(result.GetError().GetCode()) != codes.Unavailable {
				answered[result.ItemId] = result
			}
		}
	}
}

// vectorOf reads little-endian float32.
func vectorOf(result *pb.ItemResult) []float32 {
	data := result.GetEmbedding().Vectors[0].Data
	vector := make([]float32, len(data)/4)
	for i := range vector {
		vector[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return vector
}
