import static java.util.concurrent.TimeUnit.SECONDS;

import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.vecserve.v1.EmbedOptions;
import io.vecserve.v1.EmbedStreamRequest;
import io.vecserve.v1.EmbeddingServiceGrpc;
import io.vecserve.v1.Item;
import io.vecserve.v1.ItemResult;
import io.vecserve.v1.ListModelsRequest;
import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;

/**
 * Embeds sentences, photos and speech, and compares them; survives bad items and restarts. Usage:
 * Main HOST:PORT [--pause]; --pause waits for Enter before the photos.
 */
public final class Main {
  private static final String TEXT = "all-MiniLM-L6-v2";
  private static final String IMAGE = "clip-vit-base-patch32";
  private static final String AUDIO = "whisper-base";
  private static final String[][] PAIRS = {
    {"reset-password", "forgot-login"},
    {"dog-dalmatian.jpg", "dog-mastiff.jpg"},
    {"austen-0880.flac", "austen-0890.flac"},
  };

  /** Makes a message of one item, so that each can have its model and options. */
  private static EmbedStreamRequest request(String model, Item.Builder item) {
    return EmbedStreamRequest.newBuilder().setModel(model).addItems(item).build();
  }

  private static Item.Builder item(String id) {
    return Item.newBuilder().setItemId(id);
  }

  private static ByteString read(String name) throws IOException {
    return ByteString.copyFrom(Files.readAllBytes(Path.of("../data", name)));
  }

  private static double dot(FloatBuffer a, FloatBuffer b) {
    return IntStream.range(0, a.limit()).mapToDouble(i -> (double) a.get(i) * b.get(i)).sum();
  }

  public static void main(String[] args) throws IOException, InterruptedException {
    var channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext().build();
    var microsecond = EmbedOptions.newBuilder().setTimeout(Duration.newBuilder().setNanos(1000));
    var late = request(TEXT, item("late").setText("Too late."));
    var sentences =
        List.of(
            request(TEXT, item("reset-password").setText("How do I reset my password?")),
            request(TEXT, item("forgot-login").setText("I forgot my login details.")),
            request(IMAGE, item("broken.jpg").setImage(ByteString.copyFromUtf8("not a JPEG"))),
            late.toBuilder().setOptions(microsecond).build());
    var media =
        List.of(
            request(IMAGE, item("dog-dalmatian.jpg").setImage(read("photos/dog-dalmatian.jpg"))),
            request(IMAGE, item("dog-mastiff.jpg").setImage(read("photos/dog-mastiff.jpg"))),
            request(AUDIO, item("austen-0880.flac").setAudio(read("speech/austen-0880.flac"))),
            request(AUDIO, item("austen-0890.flac").setAudio(read("speech/austen-0890.flac"))));
    var vectors = new HashMap<String, FloatBuffer>();
    for (var round : List.of(sentences, media)) {
      if (round == media && args.length > 1) {
        System.out.println("press Enter to go on");
        System.in.read();
      }
      for (ItemResult result : Embedder.embed(channel, round).values()) {
        String id = result.getItemId();
        if (result.hasError()) {
          var error = result.getError();
          var code = Status.fromCodeValue(error.getCode()).getCode();
          System.out.printf("error %s %s %s%n", id, code, error.getMessage());
        } else {
          vectors.put(id, Embedder.vectorOf(result));
          System.out.printf("vector %s %d%n", id, vectors.get(id).limit());
        }
      }
    }
    for (String[] pair : PAIRS) {
      FloatBuffer a = vectors.get(pair[0]);
      FloatBuffer b = vectors.get(pair[1]);
      double cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
      System.out.printf(Locale.ROOT, "similarity %s %s %.6f%n", pair[0], pair[1], cosine);
    }
    var client = EmbeddingServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, SECONDS);
    for (var model : client.listModels(ListModelsRequest.getDefaultInstance()).getModelsList()) {
      String name = model.getName();
      if (!model.getTrained() && List.of(TEXT, IMAGE, AUDIO).contains(name)) {
        System.out.printf("untrained %s has random weights, its vectors mean nothing%n", name);
      }
    }
    channel.shutdown().awaitTermination(5, SECONDS);
  }
}
