// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
//
//	main [HOST:PORT [--pause]]
//
// With --pause it waits for Enter before the photos: time to restart the server.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "vecserve/v1"
)

const (
	tries      = 15
	firstDelay = 500 * time.Millisecond
	maxDelay   = 5 * time.Second

	textModel  = "all-MiniLM-L6-v2"
	imageModel = "clip-vit-base-patch32"
	audioModel = "whisper-base"
)

var (
	pairs = [][2]string{
		{"reset-password", "forgot-login"},
		{"dog-dalmatian.jpg", "dog-mastiff.jpg"},
		{"austen-0880.flac", "austen-0890.flac"},
	}
	errEndedEarly = errors.New("the stream ended early")
)

// One item a message, so that each can have its model and options.
func request(model string, item *pb.Item) *pb.EmbedStreamRequest {
	return &pb.EmbedStreamRequest{Model: model, Items: []*pb.Item{item}}
}

func text(id, text string) *pb.EmbedStreamRequest {
	return request(textModel, &pb.Item{ItemId: id, Content: &pb.Item_Text{Text: text}})
}

func image(id string, data []byte) *pb.EmbedStreamRequest {
	return request(imageModel, &pb.Item{ItemId: id, Content: &pb.Item_Image{Image: data}})
}

func audio(id string, data []byte) *pb.EmbedStreamRequest {
	return request(audioModel, &pb.Item{ItemId: id, Content: &pb.Item_Audio{Audio: data}})
}

// embed streams the requests and calls onResult for each answered item, as it is ready. What has
// no answer is sent again while the server is away; embedding twice does no harm.
func embed(client pb.EmbeddingServiceClient, requests []*pb.EmbedStreamRequest, onResult func(*pb.ItemResult)) error {
	waiting := make(map[string]*pb.EmbedStreamRequest)
	for _, request := range requests {
		waiting[request.Items[0].ItemId] = request
	}
	delay := firstDelay
	for attempt := 1; ; attempt++ {
		err := exchange(client, waiting, onResult)
		if len(waiting) == 0 {
			return nil
		}
		if status.Code(err) != codes.Unavailable || attempt == tries {
			return err
		}
		log.Printf("unavailable: %s; again in %s", status.Convert(err).Message(), delay)
		time.Sleep(delay)
		if delay *= 2; delay > maxDelay {
			delay = maxDelay
		}
	}
}

// exchange runs one stream. It removes from waiting what was answered, and returns why anything
// was not.
func exchange(client pb.EmbeddingServiceClient, waiting map[string]*pb.EmbedStreamRequest, onResult func(*pb.ItemResult)) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.EmbedStream(ctx)
	if err != nil {
		return err
	}
	requests := make([]*pb.EmbedStreamRequest, 0, len(waiting))
	for _, request := range waiting {
		requests = append(requests, request)
	}
	go func() {
		for _, request := range requests {
			// Blocks while the server holds us back. On an error Recv says what it was.
			if stream.Send(request) != nil {
				return
			}
		}
		stream.CloseSend()
	}()
	reason := errEndedEarly
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return reason
		}
		if err != nil {
			return err
		}
		for _, result := range response.Results {
			// In band, it means that the model is still being loaded.
			if itemErr := status.FromProto(result.GetError()); itemErr.Code() == codes.Unavailable {
				reason = itemErr.Err()
				continue
			}
			delete(waiting, result.ItemId)
			onResult(result)
		}
	}
}

// vectorOf reads little-endian float32.
func vectorOf(data []byte) []float64 {
	vector := make([]float64, len(data)/4)
	for i := range vector {
		vector[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
	}
	return vector
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += a[i] * b[i]
		aa += a[i] * a[i]
		bb += b[i] * b[i]
	}
	return ab / math.Sqrt(aa*bb)
}

func read(name string) []byte {
	data, err := os.ReadFile("../data/" + name)
	if err != nil {
		log.Fatal(err)
	}
	return data
}

func main() {
	address := "127.0.0.1:8001"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	client := pb.NewEmbeddingServiceClient(connection)

	vectors := make(map[string][]float64)
	onResult := func(result *pb.ItemResult) {
		if failure := result.GetError(); failure != nil {
			fmt.Println("error", result.ItemId, code.Code(failure.Code), failure.Message)
			return
		}
		vectors[result.ItemId] = vectorOf(result.GetEmbedding().Vectors[0].Data)
		fmt.Println("vector", result.ItemId, len(vectors[result.ItemId]))
	}
	late := text("late", "Too late.")
	late.Options = &pb.EmbedOptions{Timeout: durationpb.New(time.Microsecond)}
	sentences := []*pb.EmbedStreamRequest{
		text("reset-password", "How do I reset my password?"),
		text("forgot-login", "I forgot my login details."),
		image("broken.jpg", []byte("not a JPEG")),
		late,
	}
	if err := embed(client, sentences, onResult); err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 2 && os.Args[2] == "--pause" {
		fmt.Println("press Enter to go on")
		bufio.NewReader(os.Stdin).ReadString('\n')
	}
	media := []*pb.EmbedStreamRequest{
		image("dog-dalmatian.jpg", read("photos/dog-dalmatian.jpg")),
		image("dog-mastiff.jpg", read("photos/dog-mastiff.jpg")),
		audio("austen-0880.flac", read("speech/austen-0880.flac")),
		audio("austen-0890.flac", read("speech/austen-0890.flac")),
	}
	if err := embed(client, media, onResult); err != nil {
		log.Fatal(err)
	}
	for _, pair := range pairs {
		fmt.Printf("similarity %s %s %.6f\n", pair[0], pair[1], cosine(vectors[pair[0]], vectors[pair[1]]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	models, err := client.ListModels(ctx, &pb.ListModelsRequest{})
	if err != nil {
		log.Fatal(err)
	}
	for _, model := range models.Models {
		if !model.Trained && (model.Name == textModel || model.Name == imageModel || model.Name == audioModel) {
			fmt.Println("untrained", model.Name, "has random weights, its vectors mean nothing")
		}
	}
}
