// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: main HOST:PORT [--pause]; --pause waits for Enter before the photos.
package main

import (
	"context"
	"encoding/binary"
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

const text, image, audio = "all-MiniLM-L6-v2", "clip-vit-base-patch32", "whisper-base"

type requests map[string]*pb.EmbedStreamRequest // by item id
type results map[string]*pb.ItemResult

// embed answers all requests. What has no answer is sent again while the server is away, for about
// a minute; embedding twice does no harm.
func embed(client pb.EmbeddingServiceClient, waiting requests) (results, error) {
	answered := make(results)
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
func vectorOf(result *pb.ItemResult) []float64 {
	data := result.GetEmbedding().Vectors[0].Data
	vector := make([]float64, len(data)/4)
	for i := range vector {
		vector[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:])))
	}
	return vector
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab, aa, bb = ab+a[i]*b[i], aa+a[i]*a[i], bb+b[i]*b[i]
	}
	return ab / math.Sqrt(aa*bb)
}

// add puts an item in a message of its own, so that each can have its model and options.
func (r requests) add(model, id string, content []byte) {
	item := &pb.Item{ItemId: id, Content: &pb.Item_Image{Image: content}}
	if model == text {
		item.Content = &pb.Item_Text{Text: string(content)}
	} else if model == audio {
		item.Content = &pb.Item_Audio{Audio: content}
	}
	r[id] = &pb.EmbedStreamRequest{Model: model, Items: []*pb.Item{item}}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	client := pb.NewEmbeddingServiceClient(must(grpc.Dial(os.Args[1], grpc.WithInsecure())))
	sentences, media := make(requests), make(requests)
	sentences.add(text, "reset-password", []byte("How do I reset my password?"))
	sentences.add(text, "forgot-login", []byte("I forgot my login details."))
	sentences.add(image, "broken.jpg", []byte("not a JPEG"))
	sentences.add(text, "late", []byte("Too late."))
	sentences["late"].Options = &pb.EmbedOptions{Timeout: durationpb.New(time.Microsecond)}
	media.add(image, "dog-dalmatian.jpg", must(os.ReadFile("../data/photos/dog-dalmatian.jpg")))
	media.add(image, "dog-mastiff.jpg", must(os.ReadFile("../data/photos/dog-mastiff.jpg")))
	media.add(audio, "austen-0880.flac", must(os.ReadFile("../data/speech/austen-0880.flac")))
	media.add(audio, "austen-0890.flac", must(os.ReadFile("../data/speech/austen-0890.flac")))

	vectors := make(map[string][]float64)
	for i, round := range []requests{sentences, media} {
		if i == 1 && len(os.Args) > 2 {
			fmt.Println("press Enter to go on")
			fmt.Scanln()
		}
		for id, result := range must(embed(client, round)) {
			if failure := result.GetError(); failure != nil {
				fmt.Println("error", id, code.Code(failure.Code), failure.Message)
			} else {
				vectors[id] = vectorOf(result)
				fmt.Println("vector", id, len(vectors[id]))
			}
		}
	}
	similarity := func(a, b string) {
		fmt.Printf("similarity %s %s %.6f\n", a, b, cosine(vectors[a], vectors[b]))
	}
	similarity("reset-password", "forgot-login")
	similarity("dog-dalmatian.jpg", "dog-mastiff.jpg")
	similarity("austen-0880.flac", "austen-0890.flac")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, model := range must(client.ListModels(ctx, &pb.ListModelsRequest{})).Models {
		if !model.Trained && (model.Name == text || model.Name == image || model.Name == audio) {
			fmt.Println("untrained", model.Name, "has random weights, its vectors mean nothing")
		}
	}
}
