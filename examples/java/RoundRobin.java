import static java.util.concurrent.TimeUnit.SECONDS;

import io.grpc.EquivalentAddressGroup;
import io.grpc.ManagedChannelBuilder;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.vecserve.v1.EmbedRequest;
import io.vecserve.v1.EmbeddingServiceGrpc;
import io.vecserve.v1.Item;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.Scanner;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Embeds each line of its input, on the next server every time, and counts. Usage: RoundRobin
 * HOST:PORT,HOST:PORT
 */
public final class RoundRobin {
  /** Resolves list:///HOST:PORT,HOST:PORT. Where one DNS name has all the addresses, not needed. */
  private static final class AddressList extends NameResolverProvider {
    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args args) {
      var addresses =
          Stream.of(target.getPath().substring(1).split(","))
              .map(address -> address.split(":"))
              .map(parts -> new InetSocketAddress(parts[0], Integer.parseInt(parts[1])))
              .map(EquivalentAddressGroup::new)
              .collect(Collectors.toList());
      return new NameResolver() {
        @Override
        public void start(Listener2 listener) {
          listener.onResult(ResolutionResult.newBuilder().setAddresses(addresses).build());
        }

        @Override
        public String getServiceAuthority() {
          return "vecserve";
        }

        @Override
        public void shutdown() {}
      };
    }

    @Override
    public String getDefaultScheme() {
      return "list";
    }

    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      return 5;
    }
  }

  public static void main(String[] args) throws InterruptedException {
    NameResolverRegistry.getDefaultRegistry().register(new AddressList());
    var channel =
        ManagedChannelBuilder.forTarget("list:///" + args[0]) // or "dns:///NAME:PORT"
            .defaultLoadBalancingPolicy("round_robin")
            .usePlaintext()
            .build();
    var client = EmbeddingServiceGrpc.newBlockingStub(channel);
    var lines = new Scanner(System.in);
    for (int count = 1; lines.hasNextLine(); count++) {
      var item = Item.newBuilder().setText(lines.nextLine());
      var request = EmbedRequest.newBuilder().setModel("all-MiniLM-L6-v2").addItems(item).build();
      var result = client.withDeadlineAfter(10, SECONDS).embed(request).getResults(0);
      if (result.hasError()) {
        throw new IllegalStateException(result.getError().getMessage());
      }
      System.out.println("ok " + count);
    }
    channel.shutdown().awaitTermination(5, SECONDS);
  }
}
