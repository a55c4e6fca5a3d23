from django.http import HttpResponse, JsonResponse
from django.urls import path


def index(request):
    return HttpResponse("the shop\n")


def cart(request, item):
    return JsonResponse(
        {"item": item, "method": request.method, "host": request.get_host(), "length": len(request.body)}
    )


urlpatterns = [path("", index), path("cart/<int:item>/", cart)]
