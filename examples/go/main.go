// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: main HOST:PORT [--pause]; --pause waits for Enter before the photos.
package main

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "vecserve/v1"
)

const text, image, audio = "all-MiniLM-L6-v2", "clip-vit-base-patch32", "whisper-base"

// message has one item, so that each can have its model and options.
func message(model string, item *pb.Item) *pb.EmbedStreamRequest {
	return &pb.EmbedStreamRequest{Model: model, Items: []*pb.Item{item}}
}

func sentence(id, words string) *pb.EmbedStreamRequest {
	return message(text, &pb.Item{ItemId: id, Content: &pb.Item_Text{Text: words}})
}

func photo(name string, file []byte) *pb.EmbedStreamRequest {
	return message(image, &pb.Item{ItemId: name, Content: &pb.Item_Image{Image: file}})
}

func speech(name string, file []byte) *pb.EmbedStreamRequest {
	return message(audio, &pb.Item{ItemId: name, Content: &pb.Item_Audio{Audio: file}})
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	client := pb.NewEmbeddingServiceClient(must(grpc.Dial(os.Args[1], grpc.WithInsecure())))
	late := sentence("late", "Too late.")
	late.Options = &pb.EmbedOptions{Timeout: durationpb.New(time.Microsecond)}
	rounds := [][]*pb.EmbedStreamRequest{{
		sentence("reset-password", "How do I reset my password?"),
		sentence("forgot-login", "I forgot my login details."),
		photo("broken.jpg", []byte("not a JPEG")),
		late,
	}, {
		photo("dog-dalmatian.jpg", must(os.ReadFile("../data/photos/dog-dalmatian.jpg"))),
		photo("dog-mastiff.jpg", must(os.ReadFile("../data/photos/dog-mastiff.jpg"))),
		speech("austen-0880.flac", must(os.ReadFile("../data/speech/austen-0880.flac"))),
		speech("austen-0890.flac", must(os.ReadFile("../data/speech/austen-0890.flac"))),
	}}
	vectors := make(map[string][]float32)
	for i, messages := range rounds {
		if i == 1 && len(os.Args) > 2 {
			fmt.Println("press Enter to go on")
			fmt.Scanln()
		}
		for id, result := range must(embed(client, messages)) {
			if failure := result.GetError(); failure != nil {
				fmt.Println("error", id, code.Code(failure.Code), failure.Message)
			} else {
				vectors[id] = vectorOf(result)
				fmt.Println("vector", id, len(vectors[id]))
			}
		}
	}
	for _, pair := range [][2]string{
		{"reset-password", "forgot-login"},
		{"dog-dalmatian.jpg", "dog-mastiff.jpg"},
		{"austen-0880.flac", "austen-0890.flac"},
	} {
		a, b := vectors[pair[0]], vectors[pair[1]]
		cosine := dot(a, b) / math.Sqrt(dot(a, a)*dot(b, b))
		fmt.Printf("similarity %s %s %.6f\n", pair[0], pair[1], cosine)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, model := range must(client.ListModels(ctx, &pb.ListModelsRequest{})).Models {
		if !model.Trained && (model.Name == text || model.Name == image || model.Name == audio) {
			fmt.Println("untrained", model.Name, "has random weights, its vectors mean nothing")
		}
	}
}
